"""Pixel removal (Böhle, Fritz, Schiele, CVPR 2021, arXiv 2104.00032).

The pixels that an explanation finds least important are removed first. The longer the network stays confident in the
class, the better the explanation has ordered them.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from coda_jax.alignment.chunks import map_batches
from coda_jax.errors import InputError
from coda_jax.errors.checks import (
    as_array,
    check_choice,
    check_images,
    check_number,
    check_targets,
    check_whole,
    naming,
)

ORDERS = ("least", "most")


def removal_curve(
    model: nn.Module,
    variables: Mapping[str, Any],
    inputs: jax.Array,
    maps: jax.Array,
    targets: jax.Array | np.ndarray,
    fraction: float = 0.25,
    points: int = 128,
    order: str = "least",
    *,
    chunk_size: int = 64,
) -> jax.Array:
    """The targets' probabilities, sigmoids of their logits, while more and more pixels are removed: [N, points + 1].

    At point i, the first `i · floor(fraction · H · W / points)` pixels are zero in all channels of the input. Compiled
    once for a model and the arrays' shapes, whatever the values of its variables, with full matmul precision on all
    devices. Arrays of other shapes or dtypes, classes that do not exist (unless traced) and settings out of range
    raise InputError.

    Args:
        model: any module from inputs [n, H, W, C] to logits [n, K] that treats examples one by one.
        variables: the model's.
        inputs: [N, H, W, C], floating, encoded as the model takes them.
        maps: [N, H, W], the importance of each pixel for the target.
        targets: [N], classes as whole numbers.
        fraction: the share of the pixels that is removed at the last point, or a little less, by the floor.
        points: the number of points after the first, where no pixel is removed; at each, at least one must be.
        order: "least" or "most" important first; pixels of the same importance go in row-major order.
        chunk_size: the number of inputs that the model is given at a time, which bounds the memory.

    Examples:
        >>> from coda_jax import add_inverse, load_pretrained
        >>> from coda_jax.contributions import contribution_map, contributions
        >>> model, variables, _ = load_pretrained("digits")
        >>> inputs = add_inverse(jax.random.uniform(jax.random.key(0), (2, 8, 8, 3)))
        >>> maps = contribution_map(contributions(model, variables, inputs, targets=[3, 7]))[:, 0]
        >>> removal_curve(model, variables, inputs, maps, targets=[3, 7], points=8).shape
        (2, 9)
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a Flax linen module, not {model!r}")
    inputs, maps, targets = check_images("inputs", inputs), as_array("maps", maps), as_array("targets", targets)
    examples, height, width, _ = inputs.shape
    if maps.shape != (examples, height, width):
        raise InputError(f"maps must have shape {[examples, height, width]}, one an input, not {list(maps.shape)}")
    if targets.ndim != 1:
        raise InputError(f"targets must have shape [{examples}], not {list(targets.shape)}")
    if not isinstance(variables, Mapping):
        raise InputError(f"variables must be a mapping, as from model.init, not {variables!r}")
    with naming("model cannot be applied to these variables and inputs"):
        classes = jax.eval_shape(model.apply, variables, inputs).shape[-1]
    targets = check_targets(targets, examples, classes)[:, 0]
    check_choice("order", order, ORDERS)
    check_number("fraction", fraction, above=0)
    if fraction > 1:
        raise InputError(f"fraction must be at most 1, not {fraction}")
    check_whole("points", points)
    check_whole("chunk_size", chunk_size)
    # Rounded first because 0.57 · 10 · 10, as floats, is a little less than 57.
    pixels = int(round(fraction * height * width / points, 9))
    if pixels == 0:
        raise InputError(
            f"{points} points are too many: {fraction:g} of {height}x{width} pixels are "
            f"{fraction * height * width:g}, and at least one is removed at each point"
        )
    return _curve(model, order, pixels, points, chunk_size, variables, (inputs, maps, targets))


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _curve(
    model: nn.Module, order: str, pixels: int, points: int, chunk_size: int, variables: Mapping, arrays: tuple
) -> jax.Array:
    inputs, maps, targets = arrays
    examples = inputs.shape[0]
    removal = jnp.argsort(maps.reshape(examples, -1), stable=True, descending=order == "most")
    ranks = jnp.argsort(removal).reshape(maps.shape)

    def evaluate(batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        example, removed = batch
        kept = ranks[example] >= removed[:, None, None]
        logits = model.apply(variables, jnp.where(kept[..., None], inputs[example], 0))
        return jax.nn.sigmoid(jnp.take_along_axis(logits, targets[example][:, None], axis=1)[:, 0])

    # Batches are made of numbers, of which inputs with pixels removed are made only when their turn comes.
    pairs = jnp.repeat(jnp.arange(examples), points + 1), jnp.tile(jnp.arange(points + 1) * pixels, examples)
    with jax.default_matmul_precision("highest"):
        return map_batches(evaluate, pairs, chunk_size).reshape(examples, points + 1)
