"""The checkerboard that strides leave in maps: a pattern that repeats itself with every stride.

Strided layers see pixels by their place within the stride: where kernels are no multiples of strides, some are seen by
more patches than others (Odena, Dumoulin, Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016). What repeats
itself every `period` pixels lies, in the spectrum of a map, at the multiples of 1/`period` cycles a pixel.
"""

import jax
import jax.numpy as jnp

from coda_jax.errors import InputError
from coda_jax.errors.checks import as_array, check_whole


def checkerboard_share(maps: jax.Array, period: int) -> jax.Array:
    """The share of a map's spectral energy, without that of its mean, at the frequencies of a `period`: [N, T].

    The maps are [N, T, H, W], of sides that the period divides; it is the product of a network's strides, in pixels, at
    least 2. The share is from 0 to 1, `(period² - 1) / (H W - 1)` on average for white noise, and 0 for a map that is
    the same everywhere. Other shapes or periods raise InputError.

    That energy is the variance of the means of all pixels that have the same place within the period (by Parseval's
    theorem), so that no spectrum is computed.

    Examples:
        >>> row = jnp.array([3.0, 1.0, 3.0, 1.0])  # It repeats itself every two pixels,
        >>> print(checkerboard_share(jnp.tile(row, (4, 1))[None, None], period=2))
        [[1.]]
        >>> row = jnp.array([3.0, 3.0, 1.0, 1.0])  # and this one does not.
        >>> print(checkerboard_share(jnp.tile(row, (4, 1))[None, None], period=2))
        [[0.]]
    """
    maps = as_array("maps", maps)
    check_whole("period", period, 2)
    if maps.ndim != 4 or maps.shape[2] % period or maps.shape[3] % period:
        sides = f"[N, T, H, W] with sides that the period of {period} divides"
        raise InputError(f"maps must have shape {sides}, not {list(maps.shape)}")
    examples, targets, height, width = maps.shape
    centred = maps - jnp.mean(maps, axis=(2, 3), keepdims=True)
    by_place = centred.reshape(examples, targets, height // period, period, width // period, period)
    repeated = jnp.mean(jnp.mean(by_place, axis=(2, 4)) ** 2, axis=(2, 3))
    variance = jnp.mean(centred**2, axis=(2, 3))
    # What rounding leaves of a map that is the same everywhere is no pattern.
    rounding = 10 * jnp.finfo(centred.dtype).eps * jnp.max(jnp.abs(maps), axis=(2, 3))
    constant = variance <= rounding**2
    return jnp.where(constant, 0, repeated / jnp.where(constant, 1, variance))
