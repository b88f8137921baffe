"""Occlusion (Zeiler, Fergus, ECCV 2014, arXiv 1311.2901)."""

import jax
import jax.numpy as jnp
import numpy as np

from coda_jax.alignment.chunks import map_batches
from coda_jax.attribution.protocol import LogitsFn, attribute, check_baseline, spread
from coda_jax.errors import InputError
from coda_jax.errors.checks import Targets, check_images, check_whole


def occlusion(
    logits_fn: LogitsFn,
    inputs: jax.Array,
    targets: Targets = None,
    *,
    window: int = 9,
    stride: int = 3,
    fill: jax.Array | float = 0.0,
    copies_at_once: int = 64,
) -> jax.Array:
    """By how much a logit drops when a square window is laid over the input, the mean over the windows on a pixel.

    The windows stay inside the input and start at multiples of the stride; where these leave pixels at the far edge
    uncovered, a last window ends there. The side of the window and the stride are in pixels; the stride is at most the
    side, so that no pixel is left out. What is seen in the window is `fill`, a number or an array that broadcasts to
    [H, W, C]. For the rest see `coda_jax.attribution.protocol`.

    Examples:
        >>> inputs = jnp.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 2, 2, 1)
        >>> def brightness(inputs):
        ...     return inputs.sum((1, 2))  # [N, 1], the logit of a single class.
        >>> print(occlusion(brightness, inputs, targets=[0], window=1, stride=1)[0, 0, :, :, 0])
        [[1. 2.]
         [3. 4.]]
    """
    check_whole("window", window)
    check_whole("stride", stride)
    if stride > window:
        raise InputError(f"stride must be at most the window's {window}, not {stride}")
    _, height, width, _ = check_images("inputs", inputs).shape
    if window > min(height, width):
        raise InputError(f"window must be at most the inputs' {height} x {width} pixels, not {window}")
    windows = _windows(height, window, stride), _windows(width, window, stride)
    fill = check_baseline("fill", fill, inputs)
    return attribute(_rule, logits_fn, inputs, targets, fill, windows, copies_at_once=copies_at_once)


def _rule(
    logits_fn: LogitsFn, inputs: jax.Array, targets: jax.Array, fill: jax.Array, windows: tuple, *, copies_at_once: int
) -> jax.Array:
    rows, columns = windows
    intact = logits_fn(inputs)[0, targets[0]]

    def compute_drops(positions: tuple[jax.Array, jax.Array]) -> jax.Array:
        row, column = positions
        covered = rows[row][:, :, None] & columns[column][:, None, :]
        return intact - logits_fn(jnp.where(covered[..., None], fill, inputs))[:, targets[0]]

    positions = tuple(jnp.indices((len(rows), len(columns))).reshape(2, -1))
    drops = map_batches(compute_drops, positions, copies_at_once).reshape(len(rows), len(columns), -1)
    total = jnp.einsum("rct,rh,cw->thw", drops, rows.astype(drops.dtype), columns.astype(drops.dtype))
    mean = total / (rows.sum(0)[:, None] * columns.sum(0))
    return spread(mean[None], inputs.shape[-1]).astype(inputs.dtype)


def _windows(size: int, window: int, stride: int) -> jax.Array:
    """Along one axis, which pixels each window covers: bool [windows, size]."""
    starts = np.append(np.arange(0, size - window, stride), size - window)
    pixels = np.arange(size)
    return jnp.asarray((pixels >= starts[:, None]) & (pixels < starts[:, None] + window))
