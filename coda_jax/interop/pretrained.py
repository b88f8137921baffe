"""Trained networks in a directory of two files, as on the Hugging Face Hub: `config.json` and `model.safetensors`.

Those in `pretrained_networks`, which come with the library, are loaded by their names.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import linen as nn
from safetensors import SafetensorError

from coda_jax.errors import InputError, one_line
from coda_jax.files import as_json, replace_files
from coda_jax.networks.coda_net import DTYPES, CoDANet, check_variables, parameter_shapes, without_former_attributes

if TYPE_CHECKING:
    from coda_jax.data import DatasetInfo

_KIND = {"model_type": "coda_net", "architectures": ["CoDANet"]}
_ATTRIBUTES = [field.name for field in dataclasses.fields(CoDANet) if field.name not in ("parent", "name")]
_INFO = {"id2label", "label2id", "preprocessing"}
_CHECKSUM = "weights_sha256"


class Pretrained(NamedTuple):
    """A trained network.

    Attributes:
        model: the network.
        variables: its parameters, on the default device.
        info: of the data set that it was trained on, or None where none was saved.
    """

    model: nn.Module
    variables: dict[str, Any]
    info: "DatasetInfo | None"


def load(trained: str | os.PathLike) -> Pretrained:
    """A trained network, whatever wrote it.

    Args:
        trained: the directory of a training run, or one that `save_pretrained` wrote; or the name of a network that
            comes with coda_jax, such as "digits".

    Raises:
        InputError: there is none, or its files are damaged.

    Examples:
        >>> model, variables, info = load("digits")
        >>> model.channels
        (16, 32, 10)
    """
    directory = trained_directory(trained)
    if (directory / "model.safetensors").exists():
        return from_pretrained(directory)
    from coda_jax.training.run_directory import load_dataset_info, load_run  # Imports the libraries for training.

    model, variables = load_run(directory)
    return Pretrained(model, variables, load_dataset_info(directory))


def trained_directory(trained: str | os.PathLike) -> Path:
    """The directory of a trained network, which `load` takes by its path or by its name.

    A directory that holds a network goes before a name.

    Raises:
        InputError: a single word that is neither.
    """
    path = _as_directory(trained)
    if len(path.parts) != 1 or os.path.lexists(path / "config.json"):
        return path
    try:
        return pretrained_directory(path.name)
    except InputError as error:
        raise InputError(f"there is no run in {path}, and {error}") from error


def save_pretrained(
    directory: str | os.PathLike,
    model: CoDANet,
    variables: Mapping[str, Any],
    info: "DatasetInfo | None" = None,
) -> None:
    """Write a network to `config.json` and `model.safetensors`; other files of the directory stay as they are.

    Args:
        directory: made if it is not there.
        model: the network.
        variables: its variables, of which the collection "params" is saved, as "layers_0.A" and so on.
        info: of the data set that it was trained on.

    Raises:
        InputError: variables of another network, an `info` of another number of classes, or a directory that cannot be
            written; what was there stays.
    """
    directory = _as_directory(directory)
    check_variables(model, variables)
    arrays = {}
    for name in parameter_shapes(model):
        layer, parameter = name.split(".")
        # safetensors would write the memory of a transposed array as it lies there.
        arrays[name] = np.ascontiguousarray(variables["params"][layer][parameter])
        if arrays[name].dtype.name not in DTYPES:
            raise InputError(f"variables: {name} must be of {', '.join(DTYPES)}, not {arrays[name].dtype}")
    weights = safetensors.numpy.save(arrays, {"format": "flax"})
    attributes = {name: getattr(model, name) for name in _ATTRIBUTES}
    attributes |= {name: float(attributes[name]) for name in ("temperature", "logit_bias")}
    attributes |= {name: jnp.dtype(attributes[name]).name for name in ("dtype", "param_dtype")}
    config = _KIND | attributes
    if info is not None:
        from coda_jax.data.description import check_info  # Imports the libraries that read data.

        check_info(info, model.channels[-1])
        config["id2label"] = {str(label): name for label, name in enumerate(info.class_names)}
        config["label2id"] = {name: label for label, name in enumerate(info.class_names)}
        config["preprocessing"] = info.preprocessing._asdict()
    config[_CHECKSUM] = hashlib.sha256(weights).hexdigest()
    replace_files({directory / "model.safetensors": weights, directory / "config.json": as_json(config)})


def from_pretrained(directory: str | os.PathLike) -> Pretrained:
    """The network that `save_pretrained` wrote to a directory.

    Raises:
        InputError: a file is missing or damaged, has entries that are not known, or the arrays are of another network
            than `config.json` describes.
    """
    directory = _as_directory(directory)
    config = _read_config(directory / "config.json")
    checksum = config.pop(_CHECKSUM)
    try:
        model = CoDANet(**{name: config[name] for name in _ATTRIBUTES})
        info = _read_info(config, model.channels[-1]) if _INFO & set(config) else None
    except InputError as error:
        raise InputError(f"{directory / 'config.json'}: {error}") from error
    arrays = _read_arrays(directory / "model.safetensors", checksum, parameter_shapes(model))
    dtypes = {jnp.dtype(model.dtype), jnp.dtype(model.param_dtype), *(array.dtype for array in arrays.values())}
    if np.dtype(np.float64) in dtypes and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise InputError(f"{directory} is a network in float64, which JAX has only where JAX_ENABLE_X64=1 is set")
    params: dict[str, dict[str, jax.Array]] = {}
    for name, array in arrays.items():
        layer, parameter = name.split(".")
        params.setdefault(layer, {})[parameter] = jnp.array(array)
    return Pretrained(model, {"params": params}, info)


def load_pretrained(name: str) -> Pretrained:
    """A network that comes with coda_jax; its model card is the README.md in `pretrained_directory(name)`.

    Args:
        name: of a directory in `coda_jax/pretrained_networks`, such as "digits".

    Raises:
        InputError: there is none of that name, or its files are damaged.

    Examples:
        >>> model, variables, info = load_pretrained("digits")
        >>> info.class_names
        ('0', '1', '2', '3', '4', '5', '6', '7', '8', '9')
    """
    return from_pretrained(pretrained_directory(name))


def pretrained_directory(name: str) -> Path:
    """Where the files of a network are that comes with coda_jax; raises InputError where none has that name."""
    networks = Path(__file__).parents[1] / "pretrained_networks"
    names = sorted(path.parent.name for path in networks.glob("*/config.json"))
    if name not in names:
        raise InputError(f"no network {name!r} comes with coda_jax: there are {', '.join(names)}")
    return networks / name


def _as_directory(directory: Any) -> Path:
    if not isinstance(directory, str | os.PathLike):
        raise InputError(f"directory must be a path, not {directory!r}")
    return Path(directory)


def _read_config(path: Path) -> dict[str, Any]:
    """The entries of a config.json, which are all there and all known."""
    if not os.path.lexists(path):
        raise InputError(f"there is no network in directory {path.parent}: it has no config.json")
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({one_line(error)}): save or download it once more") from error
    if not isinstance(config, dict) or config.get("model_type") != _KIND["model_type"]:
        raise InputError(f'{path} is not of a CoDA-Net: its "model_type" must be "coda_net"')
    try:
        config = without_former_attributes(config)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    known = {*_KIND, *_ATTRIBUTES, _CHECKSUM} | (_INFO if _INFO & set(config) else set())
    differing = ", ".join(one_line(key) for key in sorted(known ^ set(config)))
    if differing:
        raise InputError(f"{path} has entries that are not known, or lacks some that are needed: {differing}")
    return config


def _read_info(config: dict[str, Any], classes: int) -> "DatasetInfo":
    from coda_jax.data.description import check_info, make_info

    names = config["id2label"]
    if not isinstance(names, dict) or set(names) != {str(label) for label in range(len(names))}:
        raise InputError('id2label must name the labels "0", "1" and so on')
    info = make_info([names[str(label)] for label in range(len(names))], config["preprocessing"])
    check_info(info, classes)
    return info


def _read_arrays(path: Path, checksum: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, whose names, shapes and checksum are the given ones."""
    if not path.is_file():
        raise InputError(f"{path} is missing: save or download the network once more")
    again = "save or download the network once more, both of its files"
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        arrays = safetensors.numpy.load_file(path)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{path} is damaged ({one_line(error)}): {again}") from error
    for name, shape in shapes.items():
        if name not in arrays or arrays[name].shape != shape:
            shown = list(arrays[name].shape) if name in arrays else "missing"
            raise InputError(f"{path} is of another network than config.json: {name} is {shown}, not {list(shape)}")
        if arrays[name].dtype.name not in DTYPES:
            raise InputError(f"{path}: {name} must be of {', '.join(DTYPES)}, not {arrays[name].dtype}")
    unknown = sorted(arrays.keys() - shapes.keys())
    if unknown:
        raise InputError(f"{path} is of another network than config.json, which has no array {one_line(unknown[0])}")
    if found != checksum:
        raise InputError(f"{path} is damaged, or was not saved with config.json: {again}")
    return arrays
