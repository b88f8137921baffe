"""Networks with their variables, and the variables that those have which explain the image itself."""

from collections.abc import Mapping
from functools import lru_cache, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util

from coda_jax.data.description import DatasetInfo
from coda_jax.errors import InputError
from coda_jax.networks.bcos_resnet import BcosResNet
from coda_jax.networks.coda_net import CoDANet

Network = BcosResNet | CoDANet


class Pretrained(NamedTuple):
    """A trained network: its parameters and batch statistics, if any, are on the default device.

    `info` describes the data set that it was trained on; it is None where none was saved.
    """

    model: nn.Module
    variables: dict[str, Any]
    info: DatasetInfo | None


@lru_cache
def variable_shapes(model: Network) -> dict[tuple[str, ...], tuple[int, ...]]:
    """The shapes of the variables of the model for images, by paths such as ("params", "layers_0", "A")."""
    # The image size does not matter for the shapes, as long as every kernel fits.
    images = jax.ShapeDtypeStruct((1, 256, 256, 6), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return {path: leaf.shape for path, leaf in traverse_util.flatten_dict(variables).items()}


def check_variables(model: Network, variables: Mapping[str, Any]) -> None:
    """Raise InputError unless the variables have the names and shapes of those of the model for images."""
    if not isinstance(model, Network):
        found = type(model).__name__ if isinstance(model, nn.Module) else repr(model)
        raise InputError(f"model must be a CoDANet or BcosResNet, not {found}")
    if not isinstance(variables, Mapping) or not isinstance(variables.get("params"), Mapping):
        raise InputError('variables must be a mapping with the collection "params", as from model.init')
    for path, shape in variable_shapes(model).items():
        entry = reduce(lambda entry, name: entry.get(name) if isinstance(entry, Mapping) else None, path, variables)
        found = getattr(entry, "shape", None)
        if found != shape:
            raise InputError(f"variables must have {'/'.join(path)} of shape {shape}, not {found}")
