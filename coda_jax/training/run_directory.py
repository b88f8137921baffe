"""The directory of a run: whether it can be written, and goes with a configuration and with data."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flax.traverse_util import flatten_dict

from coda_jax.data.datasets import Dataset, load
from coda_jax.errors import InputError, one_line
from coda_jax.networks.config_file import Config, load_config


def check_writable(directory: Path) -> None:
    """Raise InputError unless the directory is there and can be written, or can be made."""
    existing = next((path for path in (directory, *directory.absolute().parents) if os.path.lexists(path)), directory)
    if not existing.is_dir():
        raise InputError(f"cannot write to {directory}: {existing} is not a directory")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to {directory}: permission denied for {existing}")


def check_same_run(
    workdir: Path, config: Config, free_keys: tuple[str, ...], added_keys: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Raise InputError, which names the keys that differ, if `workdir` holds a run of another configuration.

    The values of `free_keys` may differ. Runs that began before there were `added_keys` have the values given there.
    """
    if not (workdir / "config.json").exists():
        return
    # JSON makes lists of tuples.
    ours = flatten_dict(json.loads(json.dumps(config)), sep=".")
    theirs = {**added_keys, **flatten_dict(load_config(workdir)[0], sep=".")}
    differing = [
        f"{key} is {ours.get(key)} (there {theirs.get(key)})"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key) and key not in free_keys
    ]
    if differing:
        raise InputError(
            f"{workdir} holds a run of another configuration: {', '.join(differing)}; "
            "use the same values, or another --workdir"
        )


def check_same_classes(workdir: Path, class_names: Sequence[str]) -> None:
    """Raise InputError, which names the classes that differ, if there is a run on others, or in another order."""
    if not (workdir / "config.json").exists():
        return
    _, info = load_config(workdir)
    if info is not None and tuple(class_names) != info.class_names:
        new = ", ".join(name for name in class_names if name not in info.class_names) or "none"
        gone = ", ".join(name for name in info.class_names if name not in class_names) or "none"
        raise InputError(
            f"{workdir} holds a run on other classes than the data has now (new: {one_line(new)}; gone: "
            f"{one_line(gone)}): put the data back as it was, or use another --workdir"
        )


def load_dataset(workdir: str | os.PathLike, data_dir: str | None = None) -> Dataset:
    """The data that a network was trained on, which is now in `data_dir`; None means where the run found it.

    Raises InputError if there is no network, if it does not say what its data is, if the data cannot be read, or if it
    has other classes now.
    """
    config, _ = load_config(workdir)
    if config.get("dataset") is None:
        raise InputError(f"{workdir} says nothing of its data, as its config.json has no dataset")
    data_dir = config.get("data_dir") if data_dir is None else data_dir
    dataset = load(config.get("dataset"), data_dir, config.get("image_size"))
    check_same_classes(Path(workdir), dataset.info.class_names)
    return dataset
