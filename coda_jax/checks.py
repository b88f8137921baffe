"""Checks of arguments, whose messages name the argument."""

import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from coda_jax.errors import InputError


def as_array(name: str, value: Any) -> jax.Array | np.ndarray:
    """`value`, of which NumPy makes an array unless it is one of JAX, which may be traced.

    Raises:
        InputError: it is not made of numbers.
    """
    if isinstance(value, jax.Array):
        return value
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be an array of numbers, not a {type(value).__name__}: {error}") from error
    if not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool):
        raise InputError(f"{name} must be an array of numbers, not a {type(value).__name__} of {array.dtype}")
    return array


def check_images(name: str, value: Any) -> jax.Array | np.ndarray:
    """`value` as an array; raises InputError unless it is floating-point [N, H, W, C]."""
    array = as_array(name, value)
    if array.ndim != 4 or not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(f"{name} must be floating-point [N, H, W, C], not {array.dtype} {list(array.shape)}")
    return array


def check_whole(name: str, value: Any, least: int = 1) -> None:
    """Raise InputError unless `value` is a whole number of at least `least`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise InputError(f"{name} must be a whole number, not {value!r}")
    if value < least:
        raise InputError(f"{name} must be at least {least}, not {value}")


def check_number(name: str, value: Any, *, least: float = -math.inf, above: float = -math.inf) -> None:
    """Raise InputError unless `value` is a finite number of at least `least` that is larger than `above`."""
    if not isinstance(value, numbers.Real | jax.Array) or np.ndim(value) or isinstance(value, bool):
        raise InputError(f"{name} must be a number, not {value!r}")
    if not math.isfinite(value):
        raise InputError(f"{name} must be finite, not {value}")
    if value < least:
        raise InputError(f"{name} must be at least {least:g}, not {value}")
    if value <= above:
        raise InputError(f"{name} must be above {above:g}, not {value}")
