"""RISE: randomised input sampling for explanation (Petsiuk, Das, Saenko, BMVC 2018, arXiv 1806.07421)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from coda_jax.attribution.protocol import LogitsFn, attribute, spread
from coda_jax.errors import InputError
from coda_jax.errors.checks import Targets, check_key, check_number, check_whole


def rise(
    logits_fn: LogitsFn,
    inputs: jax.Array,
    targets: Targets = None,
    *,
    key: jax.Array,
    masks: int = 2000,
    cells: int = 6,
    probability: float = 0.5,
    copies_at_once: int = 64,
) -> jax.Array:
    """The mean of random smooth masks, each weighed by the target's score for the input times the mask.

    The attribution of a pixel is `Σ_i score(inputs * mask_i) * mask_i / (masks * probability)`: the expected score
    given that the pixel is kept. The score is what `logits_fn` returns; the published method takes probabilities, for
    which it must return `jax.nn.sigmoid` or `jax.nn.softmax` of the logits.

    The masks are the same for all examples. In height and in width a mask has `cells` cells, at most as many as the
    input has pixels; each is kept with the probability, between 0 and 1. For the rest see
    `coda_jax.attribution.protocol`.
    """
    check_key("key", key)
    check_whole("masks", masks)
    check_whole("cells", cells)
    check_number("probability", probability)
    if not 0 < probability < 1:
        raise InputError(f"probability must be between 0 and 1, not {probability}")
    arrays = key, jnp.asarray(probability, float)
    settings = {"masks": masks, "cells": cells, "copies_at_once": copies_at_once}
    return attribute(_rule, logits_fn, inputs, targets, *arrays, **settings)


def random_mask(key: jax.Array, height: int, width: int, cells: int, probability: jax.Array | float) -> jax.Array:
    """A random smooth mask [H, W] in [0, 1], with mean `probability` at every pixel.

    A binary grid [cells, cells] is enlarged bilinearly by one cell more than the image needs, and cropped at a random
    offset within a cell. A cell is a cells-th of the image, rounded up.
    """
    grid_key, offset_key = jax.random.split(key)
    grid = jax.random.bernoulli(grid_key, probability, (cells, cells)).astype(float)
    cell_sizes = np.array([-(-height // cells), -(-width // cells)])
    mask = jax.image.resize(grid, (cells + 1) * cell_sizes, "linear")
    offsets = jax.random.randint(offset_key, (2,), 0, cell_sizes)
    return lax.dynamic_slice(mask, offsets, (height, width))


def _rule(
    logits_fn: LogitsFn,
    inputs: jax.Array,
    targets: jax.Array,
    key: jax.Array,
    probability: jax.Array,
    *,
    masks: int,
    cells: int,
    copies_at_once: int,
) -> jax.Array:
    _, height, width, channels = inputs.shape
    if cells > min(height, width):
        raise InputError(f"cells must be at most the inputs' {height} x {width} pixels, not {cells}")
    batch_size = min(copies_at_once, masks)

    def draw(index: jax.Array) -> jax.Array:
        return random_mask(jax.random.fold_in(key, index), height, width, cells, probability)

    def add(total: jax.Array, first: jax.Array) -> tuple[jax.Array, None]:
        indices = first + jnp.arange(batch_size)
        drawn = jax.vmap(draw)(indices)
        scores = logits_fn((drawn[..., None] * inputs).astype(inputs.dtype))[:, targets[0]]
        scores = jnp.where(indices[:, None] < masks, scores, 0)  # The last part may go beyond the number of masks.
        return total + jnp.einsum("nt,nhw->thw", scores, drawn), None

    total = jnp.zeros((targets.shape[1], height, width))
    total, _ = lax.scan(add, total, jnp.arange(0, masks, batch_size))
    return spread(total[None] / (masks * probability), channels).astype(inputs.dtype)
