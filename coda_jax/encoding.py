"""The encoding of images that a CoDA-Net takes as its input."""

import jax
import jax.numpy as jnp
import numpy as np

from coda_jax.checks import as_array
from coda_jax.errors import InputError


def add_inverse(images: jax.Array) -> jax.Array:
    """Append the inverse of an image to it: `[x, 1-x]`, as the paper does.

    With it every colour, black too, has a direction of its own that a unit can align with.

    Args:
        images: [N, H, W, 3], floating, in [0, 1].

    Returns:
        [N, H, W, 6], in the images' dtype, red, green, blue, and their inverses.

    Raises:
        InputError: another shape, dtype or (unless traced) range.

    Examples:
        >>> print(add_inverse(np.array([[[[1.0, 0.25, 0.0]]]])))
        [[[[1.   0.25 0.   0.   0.75 1.  ]]]]
    """
    images = check_pixels("images", images, channels=3)
    return jnp.concatenate([images, 1 - images], axis=-1)


def check_pixels(name: str, pixels: jax.Array | np.ndarray, channels: int) -> jax.Array | np.ndarray:
    """`pixels` as an array, or InputError unless it is [N, H, W, channels], floating and, if not traced, in [0, 1]."""
    pixels = as_array(name, pixels)
    shape = pixels.shape
    if len(shape) != 4 or shape[-1] != channels:
        hint = "encode images with coda_jax.add_inverse" if channels == 6 else "stack RGB images, channels last"
        raise InputError(f"{name} must have shape [N, H, W, {channels}], not {list(shape)}: {hint}")
    if not jnp.issubdtype(pixels.dtype, jnp.floating):
        raise InputError(f"{name} must be floating-point in [0, 1], not {pixels.dtype}: divide 8-bit pixels by 255")
    if not isinstance(pixels, jax.core.Tracer):
        values = np.asarray(pixels)  # Operations on JAX's own arrays would be traced where others are.
        low, high = np.min(values, initial=0.0), np.max(values, initial=0.0)
        if not (low >= 0 and high <= 1):
            raise InputError(f"{name} must lie in [0, 1], but range from {low:g} to {high:g}")
    return pixels
