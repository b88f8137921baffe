"""The directory of a run: its configuration in `config.json`, and its checkpoints in `checkpoints`."""

import json
import os
from pathlib import Path
from typing import Any

from coda_jax.errors import InputError
from coda_jax.models import CoDANet
from coda_jax.training.checkpoints import Checkpoints

Config = dict[str, Any]


def save_config(workdir: Path, config: Config) -> None:
    """Write the configuration, whose entry "model" holds the attributes of the `CoDANet`."""
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def check_same_run(workdir: Path, config: Config, free_keys: tuple[str, ...]) -> None:
    """Raise InputError, which names the keys that differ, if there is a run of another configuration.

    Args:
        workdir: the directory, which need not exist.
        config: of the run that is to go on there.
        free_keys: keys whose values may differ.
    """
    if not (workdir / "config.json").exists():
        return
    # JSON makes lists of tuples.
    ours, theirs = _flat(json.loads(json.dumps(config))), _flat(load_config(workdir))
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
    """The configuration of a run; raises InputError if there is no run."""
    path = Path(workdir) / "config.json"
    if not path.exists():
        raise InputError(f"there is no run in {os.fspath(workdir)}: it has no config.json")
    return json.loads(path.read_text())


def load_run(workdir: str | os.PathLike) -> tuple[CoDANet, dict[str, Any]]:
    """A trained network: the model and the variables of a run's newest checkpoint.

    Raises:
        InputError: there is no run, or no checkpoint yet.
    """
    model = CoDANet(**load_config(workdir)["model"])
    return model, {"params": Checkpoints(Path(workdir) / "checkpoints").restore_params(model)}


def _flat(tree: Config, prefix: str = "") -> Config:
    flat = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
