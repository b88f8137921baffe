"""The directory of a run: its `config.json`, its `dataset.json` and its `checkpoints`."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flax import linen as nn

from coda_jax.data.datasets import Dataset, load
from coda_jax.data.description import DatasetInfo, info_entries, make_info
from coda_jax.errors import InputError, one_line
from coda_jax.files import as_json, replace_files
from coda_jax.networks.architectures import make_model
from coda_jax.training.checkpoints import Checkpoints

Config = dict[str, Any]


def save_config(workdir: Path, config: Config) -> None:
    """Write the configuration, whose entry "model" `architectures.make_model` makes a network of.

    Raises:
        InputError: the directory cannot be made or written.
    """
    replace_files({workdir / "config.json": as_json(config)})


def save_dataset_info(workdir: Path, info: DatasetInfo) -> None:
    """Write the names of the classes, and how images are prepared.

    Raises:
        InputError: the directory cannot be made or written.
    """
    replace_files({workdir / "dataset.json": as_json(info_entries(info))})


def load_dataset_info(workdir: str | os.PathLike) -> DatasetInfo:
    """What `save_dataset_info` wrote; raises InputError if nothing is there, or it is damaged."""
    path = Path(workdir) / "dataset.json"
    if not os.path.lexists(path):
        raise InputError(f"{path} is missing: give the command that trained the run once more, which writes it")
    try:
        read = json.loads(path.read_text())
        return make_info(read["class_names"], read["preprocessing"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is damaged ({error}): give the command that trained the run once more, which writes it"
        ) from error


def check_same_classes(workdir: Path, class_names: Sequence[str]) -> None:
    """Raise InputError, which names the classes that differ, if there is a run on others, or in another order."""
    try:
        before = load_dataset_info(workdir).class_names
    except InputError:  # There is no run, or one that is about to write it anew.
        return
    if tuple(class_names) != before:
        new = ", ".join(name for name in class_names if name not in before) or "none"
        gone = ", ".join(name for name in before if name not in class_names) or "none"
        raise InputError(
            f"{workdir} holds a run on other classes than the data has now (new: {one_line(new)}; gone: "
            f"{one_line(gone)}): put the data back as it was, or use another --workdir"
        )


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
    """Raise InputError, which names the keys that differ, if there is a run of another configuration.

    Args:
        workdir: the directory, which need not exist.
        config: of the run that is to go on there.
        free_keys: keys whose values may differ.
        added_keys: the values that runs have which began before there were such keys.
    """
    if not (workdir / "config.json").exists():
        return
    # JSON makes lists of tuples.
    ours, theirs = _flat(json.loads(json.dumps(config))), {**added_keys, **_flat(load_config(workdir))}
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


def load_config(workdir: str | os.PathLike) -> Config:
    """The configuration of a run; raises InputError if there is no run, or one whose configuration is damaged."""
    path = Path(workdir) / "config.json"
    if not os.path.lexists(path):
        raise InputError(f"there is no run in {os.fspath(workdir)}: it has no config.json")
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): write it anew, or train in another directory") from error
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        raise InputError(f'{path} is damaged (it has no "model"): write it anew, or train in another directory')
    return config


def load_dataset(workdir: str | os.PathLike, data_dir: str | None = None) -> Dataset:
    """The data that a run was trained on.

    Args:
        workdir: the directory of the run.
        data_dir: where the data is now; None for where the run found it.

    Raises:
        InputError: there is no run, its data cannot be read, or the data has other classes now.
    """
    config = load_config(workdir)
    data_dir = config.get("data_dir") if data_dir is None else data_dir
    dataset = load(config.get("dataset"), data_dir, config.get("image_size"))
    check_same_classes(Path(workdir), dataset.info.class_names)
    return dataset


def load_run(workdir: str | os.PathLike) -> tuple[nn.Module, dict[str, Any]]:
    """A trained network: the model and the variables of a run's newest checkpoint.

    Raises:
        InputError: there is no run, or no checkpoint yet, or what is there is damaged.
    """
    model = make_model(load_config(workdir)["model"])
    return model, Checkpoints(Path(workdir) / "checkpoints").restore_variables(model)


def _flat(tree: Config, prefix: str = "") -> Config:
    flat: Config = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
