"""Checkpoints of the authors' PyTorch implementation (github.com/moboehle/CoDA-Nets)."""

import io
import os
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coda_jax.errors import InputError, one_line
from coda_jax.errors.checks import as_array
from coda_jax.errors.files import replace_files
from coda_jax.networks.coda_net import LOGIT_BIAS, CoDANet
from coda_jax.networks.variables import check_variables

_NAME = re.compile(r"(?:module\.)?(\d+)\.weight_mod\.weighting_f\.(0\.weight|1\.weight|1\.bias)")


def load_checkpoint(
    path_or_mapping: str | os.PathLike | Mapping[str, Any],
    strides: Sequence[int],
    paddings: Sequence[int],
    norm: str = "sq",
    temperature: float = 1000.0,
    logit_bias: float = LOGIT_BIAS,
) -> tuple[CoDANet, dict[str, Any]]:
    """A PyTorch checkpoint as a network of ours, and its variables in the checkpoint's dtype (published: float32).

    The checkpoint is a `.pkl` file, of which no code is run, or a mapping from its names, with or without the prefix
    `module.`, to arrays. What it does not hold is to be given: the layers' strides and paddings, in pixels, their norm,
    "sq" or "l2", and the network's temperature T and bias b₀.

    A missing or unreadable file, names or shapes that are not those of a CoDA-Net, and numbers of strides or paddings
    that are not that of the layers raise InputError; a file where PyTorch is not installed, ModuleNotFoundError.

    Examples:
        >>> arrays = {
        ...     "0.weight_mod.weighting_f.0.weight": np.zeros((4, 6, 3, 3)),  # [rank, channels, k, k]
        ...     "0.weight_mod.weighting_f.1.weight": np.zeros((540, 4, 1, 1)),  # [channels · k · k · units, rank, 1, 1]
        ...     "0.weight_mod.weighting_f.1.bias": np.zeros(540),
        ... }
        >>> model, variables = load_checkpoint(arrays, strides=[1], paddings=[1])
        >>> model.channels, model.ranks, model.kernel_sizes
        ((10,), (4,), (3,))
    """
    layers: dict[int, dict[str, np.ndarray]] = {}
    for name, array in read_arrays(path_or_mapping).items():
        match = isinstance(name, str) and _NAME.fullmatch(name)
        if not match:
            like = "names are like 0.weight_mod.weighting_f.0.weight"
            raise InputError(f"the checkpoint holds {name!r}, which is no parameter of a CoDA-Net: {like}")
        layers.setdefault(int(match[1]), {})[match[2]] = np.asarray(as_array(name, array))
    if not layers or sorted(layers) != list(range(len(layers))):
        raise InputError(f"the checkpoint's layers must be numbered from 0 without gaps, but are {sorted(layers)}")
    parameters = [_layer(index, layers[index]) for index in range(len(layers))]
    kernel_sizes, _, _, channels, ranks = zip(*(layer["A"].shape for layer in parameters), strict=True)
    model = CoDANet(channels, ranks, kernel_sizes, strides, paddings, norm, temperature, logit_bias)
    return model, {"params": {f"layers_{index}": layer for index, layer in enumerate(parameters)}}


def to_state_dict(model: CoDANet, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The parameters of a network in the names and layout of the authors' implementation, as `load_checkpoint` takes.

    They are, for each layer `l` of rank r with K units and patches of d = C·k·k values, in the parameters' dtype,
    `l.weight_mod.weighting_f.0.weight` [r, C, k, k], `l.weight_mod.weighting_f.1.weight` [d·K, r, 1, 1] and
    `l.weight_mod.weighting_f.1.bias` [d·K]. Variables of another network, and layers other than DAUs, raise InputError.
    """
    check_variables(model, variables)
    layer = getattr(model, "layer", "B-cos")
    if layer != "dau":
        raise InputError(f"the authors' implementation has DAU layers only, not {layer!r}")
    arrays = {}
    for index, rank in enumerate(model.ranks):
        layer = variables["params"][f"layers_{index}"]
        B, A, b = (np.asarray(layer[parameter]) for parameter in ("B", "A", "b"))
        name = f"{index}.weight_mod.weighting_f"
        arrays[f"{name}.0.weight"] = np.ascontiguousarray(B.transpose(3, 2, 0, 1))
        arrays[f"{name}.1.weight"] = A.transpose(2, 0, 1, 3, 4).reshape(-1, rank, 1, 1)
        arrays[f"{name}.1.bias"] = b.transpose(2, 0, 1, 3).reshape(-1)
    return arrays


def save_checkpoint(path: str | os.PathLike, model: CoDANet, variables: Mapping[str, Any]) -> None:
    """Write a network's parameters, float32 or float64, to a `.pkl` file for the authors' code and `load_checkpoint`.

    Variables of another network or dtype, and a path that cannot be written, raise InputError. Where PyTorch is not
    installed, it raises ModuleNotFoundError.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"path must be a path, not {path!r}")
    arrays = to_state_dict(model, variables)
    for name, array in arrays.items():
        if array.dtype not in (np.float32, np.float64):
            raise InputError(f"variables must be float32 or float64 in a checkpoint, but {name} is {array.dtype}")
    torch = _import_torch(f"writing {os.fspath(path)} needs PyTorch: install torch")
    content = io.BytesIO()
    torch.save({name: torch.tensor(array) for name, array in arrays.items()}, content)
    replace_files({Path(path): content.getvalue()})


def _import_torch(message: str) -> Any:
    try:
        import torch
    except ModuleNotFoundError:
        raise ModuleNotFoundError(message) from None
    return torch


def read_arrays(path_or_mapping: str | os.PathLike | Mapping[str, Any]) -> Mapping[str, Any]:
    """The arrays of a PyTorch checkpoint by name; a mapping is returned as it is. Raises as `load_checkpoint`."""
    if isinstance(path_or_mapping, Mapping):
        return path_or_mapping
    if not isinstance(path_or_mapping, str | os.PathLike):
        raise InputError(f"path_or_mapping must be a path or a mapping of names to arrays, not {path_or_mapping!r}")
    path = os.fspath(path_or_mapping)
    if not os.path.exists(path):
        raise InputError(f"there is no checkpoint at {path}")
    torch = _import_torch(f"reading {path} needs PyTorch: install torch, or give a mapping of names to arrays")
    refused = f"{path} is not a readable PyTorch checkpoint"
    try:
        size = os.path.getsize(path)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > size:  # PyTorch compresses nothing, but would unpack whatever it is given.
                raise ValueError(f"its {size} bytes unpack to {unpacked}")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, all of which mean that the file cannot be read.
        reason = one_line(str(error).strip().partition("\n")[0] or type(error).__name__)
        if isinstance(error, pickle.UnpicklingError):  # PyTorch's own message tells how to run what is in the file.
            reason = "it is damaged, or holds other things than arrays, which are not loaded"
        raise InputError(f"{refused}: {reason}") from error
    if not isinstance(checkpoint, Mapping):
        raise InputError(f"{path} holds a {type(checkpoint).__name__}, not a mapping of names to arrays")
    for name, array in checkpoint.items():
        if not isinstance(name, str) or not isinstance(array, torch.Tensor):
            raise InputError(f"{path} holds a {type(array).__name__} as {name!r}, not only arrays by name")
    values = sum(array.nbytes for array in checkpoint.values())
    if values > size:  # A view may show one value any number of times.
        raise InputError(f"{refused}: its {size} bytes claim to hold {values} bytes of arrays")
    return checkpoint


def _layer(index: int, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One layer's parameters in our layout, from the two convolutions that make its weights in the checkpoint."""
    missing = {"0.weight", "1.weight", "1.bias"} - set(arrays)
    if missing:
        raise InputError(f"layer {index} of the checkpoint lacks {', '.join(sorted(missing))}")
    first, second, bias = arrays["0.weight"], arrays["1.weight"], arrays["1.bias"]
    if first.ndim != 4 or first.shape[2] != first.shape[3]:
        raise InputError(f"layer {index}'s 0.weight must be [rank, channels, k, k], not {list(first.shape)}")
    rank, channels, kernel_size, _ = first.shape
    patch_values = channels * kernel_size**2
    units, rest = divmod(bias.size, patch_values)
    if rest or units == 0 or bias.ndim != 1 or second.shape != (bias.size, rank, 1, 1):
        right = f"[n, {rank}, 1, 1] and [n], n a multiple of {patch_values}, for a 0.weight {list(first.shape)}"
        raise InputError(f"layer {index}'s 1.weight {list(second.shape)} and 1.bias {list(bias.shape)} must be {right}")
    # There the patch's values run channel first, and the second convolution's outputs over (patch value, unit).
    window = (channels, kernel_size, kernel_size)
    return {
        "B": first.transpose(2, 3, 1, 0),
        "A": second.reshape(*window, units, rank).transpose(1, 2, 0, 3, 4),
        "b": bias.reshape(*window, units).transpose(1, 2, 0, 3),
    }
