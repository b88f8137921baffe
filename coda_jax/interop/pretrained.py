"""Trained networks in directories: of training runs, and of networks that are published.

A published network is two files, as on the Hugging Face Hub: `config.json` and `model.safetensors`. Those in
`pretrained_networks` come with the library and are loaded by their names.
"""

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from coda_jax.data.description import DatasetInfo, check_info
from coda_jax.errors import InputError, one_line
from coda_jax.networks.architectures import ARCHITECTURES, make_model
from coda_jax.networks.coda_net import DTYPES
from coda_jax.networks.config_file import load_config, save_config
from coda_jax.networks.variables import Network, Pretrained, check_variables, variable_shapes

_STORED = (*DTYPES, "float16")  # No network computes in float16: it is half the size of float32, to which it is read.


def load(trained: str | os.PathLike) -> Pretrained:
    """The network in a directory that `from_pretrained` takes, or else the one of that name, as of `load_pretrained`.

    Raises InputError where there is none, or its files are damaged.

    Examples:
        >>> model, variables, info = load("digits")
        >>> model.channels, info.class_names[:3]
        ((16, 32, 10), ('0', '1', '2'))
    """
    directory = trained_directory(trained)
    return load_pretrained(directory.name) if is_published_elsewhere(directory) else from_pretrained(directory)


def load_explainable(trained: str | os.PathLike | Pretrained, described: bool = True) -> Pretrained:
    """What `load` loads, or what it has loaded; raises InputError, too, unless the network explains itself.

    If it must be described, a network whose classes and images were not saved raises InputError too.
    """
    network = Pretrained(*trained) if isinstance(trained, tuple) and len(trained) == 3 else load(trained)
    name = "network" if isinstance(trained, tuple) else trained
    if not hasattr(network.model, "decompose"):
        refused = f"{name} is a run of a {type(network.model).__name__}"
        raise InputError(f"{refused}: explanations are for CoDA-Nets, hybrids and B-cos networks")
    if described and network.info is None:
        remedy = "save it with save_pretrained(..., info=...)"
        raise InputError(f"{name} says nothing of its classes and images: {remedy}")
    return network


def load_pretrained(name: str) -> Pretrained:
    """A network that comes with coda_jax, by its name; raises as `load`.

    Or a B-cos network that its authors published, such as "bcos-resnet50", as `coda_jax.interop.bcos.load_published`.
    """
    if isinstance(name, str) and is_published_elsewhere(Path(name)):
        from coda_jax.interop.bcos import load_published  # It needs this module.

        return load_published(name)
    return from_pretrained(pretrained_directory(name))


def from_pretrained(directory: str | os.PathLike) -> Pretrained:
    """The network in a directory that `save_pretrained` or a training run wrote; of a run the newest checkpoint.

    It raises InputError where a file is missing or damaged, or the parameters are not those of `config.json`'s network.
    """
    directory = _as_directory(directory)
    config, info = load_config(directory)
    try:
        model = make_model(config["model"])
        if isinstance(model, Network) and info is not None:
            check_info(info, model.channels[-1])
    except InputError as error:
        raise InputError(f"{directory / 'config.json'}: {error}") from error
    if "weights_sha256" in config:
        return Pretrained(model, _read_weights(directory, config["weights_sha256"], model), info)
    from coda_jax.training.checkpoints import Checkpoints  # Needs the libraries for training.

    return Pretrained(model, Checkpoints(directory / "checkpoints").restore_variables(model), info)


def save_pretrained(
    directory: str | os.PathLike, model: Network, variables: Mapping[str, Any], info: DatasetInfo | None = None
) -> None:
    """Write a network to `config.json` and `model.safetensors` in a directory, which is made if it is not there.

    Of the variables, the collection "params" is saved, as "layers_0.A" and so on, and that of a B-cos network's batch
    statistics, as "batch_stats.conv1.variance" and so on. Variables of another network, an `info` of another number of
    classes, and a directory that cannot be written raise InputError and change nothing. Other files of the directory
    stay as they are.
    """
    directory = _as_directory(directory)
    check_variables(model, variables)
    if info is not None:
        check_info(info, model.channels[-1])
    save_config(directory, {"model": entries_of(model)}, info, weights_of(model, variables))


def entries_of(model: Network) -> dict[str, Any]:
    """The entry "model" of a `config.json`, of which `make_model` makes the network again."""
    entries = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    del entries["parent"], entries["name"]
    if entries.get("layer") == "dau":
        del entries["layer"]  # Older versions know only DAUs.
    entries |= {name: float(entries[name]) for name in ("temperature", "logit_bias", "b") if name in entries}
    entries |= {name: jnp.dtype(entries[name]).name for name in ("dtype", "param_dtype") if name in entries}
    return {"architecture": next(name for name, kind in ARCHITECTURES.items() if kind is type(model))} | entries


def weights_of(model: Network, variables: Mapping[str, Any]) -> bytes:
    """The content of a `model.safetensors`; raises InputError for parameters neither of `DTYPES` nor float16."""
    import safetensors.numpy  # Training on arrays does without.

    # safetensors would write the memory of a transposed array as it lies there.
    arrays = {
        name: np.ascontiguousarray(reduce(getitem, path, variables)) for name, path in _paths_by_name(model).items()
    }
    _check_dtypes("variables", arrays)
    return safetensors.numpy.save(arrays, {"format": "flax"})


def _paths_by_name(model: Network) -> dict[str, tuple[str, ...]]:
    """The paths of all variables by their names in a `model.safetensors`."""
    return {".".join(path).removeprefix("params."): path for path in variable_shapes(model)}


def is_published_elsewhere(trained: Path) -> bool:
    """Whether this is no directory, but the name of a network that `load_pretrained` downloads."""
    return len(trained.parts) == 1 and trained.name.startswith("bcos-") and not os.path.lexists(trained / "config.json")


def trained_directory(trained: str | os.PathLike) -> Path:
    """The directory that `load` takes, or the name of a network that is published elsewhere.

    Raises InputError for another single word that is neither a directory nor a name.
    """
    path = _as_directory(trained)
    if len(path.parts) != 1 or os.path.lexists(path / "config.json") or is_published_elsewhere(path):
        return path
    try:
        return pretrained_directory(path.name)
    except InputError as error:
        raise InputError(f"there is no run in {path}, and {error}") from error


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


def _check_dtypes(where: object, arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if array.dtype.name not in _STORED:
            raise InputError(f"{where}: {name} must be of {', '.join(_STORED)}, not {array.dtype}")


def _read_weights(directory: Path, checksum: str, model: nn.Module) -> dict[str, Any]:
    """The variables in `model.safetensors`, if its checksum is right and its arrays are those of the model."""
    import safetensors.numpy

    path, again = directory / "model.safetensors", "save or download the network once more, both of its files"
    if not isinstance(model, Network):
        raise InputError(f"{path} must be of a CoDANet or BcosResNet, but config.json is of a {type(model).__name__}")
    if not path.is_file():
        raise InputError(f"{path} is missing: {again}")
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        arrays = safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{path} is damaged ({one_line(error)}): {again}") from error
    if found != checksum:
        raise InputError(f"{path} is damaged, or was not saved with config.json: {again}")
    _check_dtypes(path, arrays)
    if any(array.dtype == np.float64 for array in arrays.values()) and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise InputError(f"{path} is in float64, which JAX has only where JAX_ENABLE_X64=1 is set")
    paths, shapes = _paths_by_name(model), {name: array.shape for name, array in arrays.items()}
    expected = {name: variable_shapes(model)[path] for name, path in paths.items()}
    for name in sorted(shapes.keys() | expected.keys()):
        if shapes.get(name) != expected.get(name):
            difference = f"{one_line(name)} is {shapes.get(name, 'missing')}, not {expected.get(name, 'missing')}"
            raise InputError(f"{path} is of another network than config.json: {difference}")
    wider = {name: np.float32 if array.dtype == np.float16 else array.dtype for name, array in arrays.items()}
    return traverse_util.unflatten_dict({path: jnp.array(arrays[name], wider[name]) for name, path in paths.items()})
