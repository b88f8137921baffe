"""Sanity check by cascading randomisation (Adebayo et al., NeurIPS 2018, arXiv 1810.03292).

An explanation of what a network has learnt must change when its parameters are replaced by random ones, layer after
layer from the output to the input.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from coda_jax.errors import InputError
from coda_jax.errors.checks import as_array, check_key, naming


def randomise_layers(
    model: nn.Module, variables: Mapping[str, Any], inputs: jax.Array, key: jax.Array, layers: Sequence[str]
) -> list[tuple[str, dict[str, Any]]]:
    """For each layer its name, and the variables with it and all the layers before it in the list initialised anew.

    The variables must have the collection "params"; others, such as "batch_stats", stay as they are. With "gram" (see
    `CoDANet.with_gram`), which would no longer belong to the parameters, they raise InputError. One example is enough
    for the inputs. The key must be another than the one that made the given parameters.

    The layers are names in `variables["params"]` from the output to the input, for a CoDANet of L layers `layers_{L-1}`
    to `layers_0`; others raise InputError.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a Flax linen module, not {model!r}")
    if not isinstance(variables, Mapping):
        raise InputError(f'variables must be a mapping with the collection "params", not {variables!r}')
    check_key("key", key)
    if "params" not in variables:
        raise InputError(f'variables must have the collection "params", but have only {", ".join(variables)}')
    if "gram" in variables:
        raise InputError('variables must not have the collection "gram" of the old parameters: leave it out')
    if not isinstance(layers, Sequence) or not all(isinstance(name, str) for name in layers):
        raise InputError(f"layers must be a list of names, not {layers!r}")
    params = dict(variables["params"])
    for name in layers:
        if name not in params:
            near = get_close_matches(name, params) or params
            raise InputError(f"there is no layer {name!r} in the parameters: choose {' or '.join(near)}")
    inputs = as_array("inputs", inputs)
    with naming("model cannot be initialised for these inputs"):
        fresh = jax.jit(model.init)(key, inputs)["params"]
    stages = []
    for name in layers:
        params = {**params, name: fresh[name]}
        stages.append((name, {**variables, "params": params}))
    return stages


def map_similarity(maps: jax.Array, others: jax.Array) -> jax.Array:
    """Spearman's rank correlation of two maps' absolute values: [N, H, W], [N, H, W] -> [N], in [-1, 1].

    Equal values share their average rank; a map that is the same everywhere has the correlation 0 with any other. Maps
    of other or different shapes raise InputError.
    """
    maps, others = as_array("maps", maps), as_array("others", others)
    if maps.ndim != 3 or others.shape != maps.shape:
        raise InputError(
            f"both maps must have the same shape [N, H, W], not {list(maps.shape)} and {list(others.shape)}"
        )
    return _similarity(maps, others)


@jax.jit
def _similarity(maps: jax.Array, others: jax.Array) -> jax.Array:
    """What `map_similarity` returns."""
    count, height, width = maps.shape
    values = jnp.abs(jnp.stack([maps, others])).reshape(2, count, height * width)
    ranks = jax.scipy.stats.rankdata(values, axis=2)
    a, b = ranks - (height * width + 1) / 2  # Centred.
    lengths = jnp.linalg.norm(a, axis=1) * jnp.linalg.norm(b, axis=1)
    return jnp.sum(a * b, axis=1) / jnp.where(lengths == 0, 1, lengths)
