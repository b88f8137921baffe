"""The file `config.json` of a trained network, in the directory of a training run or of a published network.

It has the entries `model`, the network as `networks.architectures.make_model` takes it; `class_names` and
`preprocessing`, the `DatasetInfo` of its data, if it was given; and, in a published network, `weights_sha256`, the
checksum of `model.safetensors`, which holds the parameters. A run has its settings as further entries, and its
parameters in `checkpoints`. Of the settings, the networks that come with coda_jax have `dataset` and `image_size`.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from coda_jax.data.description import DatasetInfo, info_entries, make_info
from coda_jax.errors import InputError, one_line
from coda_jax.errors.files import as_json, replace_files

Config = dict[str, Any]


def save_config(directory: Path, config: Config, info: DatasetInfo | None = None, weights: bytes | None = None) -> None:
    """Write `config.json` from `config` and `info`, and, if `weights` is given, `model.safetensors` with this content.

    `config` has the entry "model" and a run's settings. The directory is made if it is not there. Both files are
    replaced, or none; one that cannot be written raises InputError.
    """
    contents = {}
    if info is not None:
        config = config | info_entries(info)
    if weights is not None:
        config = config | {"weights_sha256": hashlib.sha256(weights).hexdigest()}
        contents[directory / "model.safetensors"] = weights
    replace_files(contents | {directory / "config.json": as_json(config)})


def load_config(directory: str | os.PathLike) -> tuple[Config, DatasetInfo | None]:
    """The entries of `config.json` without those of the `DatasetInfo`, and the latter; of former versions as well.

    It raises InputError where there is no `config.json`, or a damaged one.
    """
    path = Path(directory) / "config.json"
    if not os.path.lexists(path):
        raise InputError(f"there is no run in {path.parent}: it has no config.json, as the directory of a network has")
    config = _read(path)
    if config.get("model_type") == "coda_net":
        config = _of_former_publication(config)
    if not isinstance(config.get("model"), dict):
        raise _damaged(path, 'it has no "model"')
    of_former_run = path.with_name("dataset.json")
    if "class_names" not in config and of_former_run.exists():
        path = of_former_run
        config |= _read(path)
    described = [config.pop(name, None) for name in DatasetInfo._fields]
    try:
        return config, None if described == [None, None] else make_info(*described)
    except InputError as error:
        raise _damaged(path, error) from error


def _read(path: Path) -> Config:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return content if isinstance(content, dict) else {}


def _damaged(path: Path, reason: object) -> InputError:
    return InputError(f"{path} is damaged ({one_line(reason)}): put back a copy, or use another directory")


def _of_former_publication(former: Config) -> Config:
    """The entries of a published network of former versions, which had the model's attributes beside the others."""
    config: Config = {name: former.pop(name) for name in ("preprocessing", "weights_sha256") if name in former}
    names = former.pop("id2label", None)
    if isinstance(names, dict):
        config["class_names"] = [names.get(str(label)) for label in range(len(names))]
    model = {name: value for name, value in former.items() if name not in ("model_type", "architectures", "label2id")}
    return config | {"model": model}
