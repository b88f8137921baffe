"""The encoding of images that a CoDA-Net takes as its input."""

import jax
import jax.numpy as jnp

from coda_jax.errors.checks import check_pixels


def add_inverse(images: jax.Array) -> jax.Array:
    """Append the inverse of an image to it, `[x, 1-x]`, as the paper does: [N, H, W, 3] -> [N, H, W, 6], in its dtype.

    With it every colour, black too, has a direction of its own that a unit can align with. Images of another
    shape, or not floating-point in [0, 1], raise InputError (the range is not looked at when traced).

    Examples:
        >>> import numpy as np
        >>> print(add_inverse(np.array([[[[1.0, 0.25, 0.0]]]])))
        [[[[1.   0.25 0.   0.   0.75 1.  ]]]]
    """
    images = check_pixels("images", images, channels=3)
    return jnp.concatenate([images, 1 - images], axis=-1)
