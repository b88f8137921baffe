"""Checks of arguments, whose messages name the argument."""

import contextlib
import math
import numbers
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np

from coda_jax.errors import InputError


def as_array(name: str, value: Any) -> jax.Array | np.ndarray:
    """`value`, of which NumPy makes an array unless it is one of JAX, which may be traced.

    Raises:
        InputError: it is not made of real numbers.
    """
    try:
        array = value if isinstance(value, jax.Array) else np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be an array of numbers, not a {type(value).__name__}: {error}") from error
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise InputError(f"{name} must be an array of real numbers, not a {type(value).__name__} of {array.dtype}")
    return array


def check_images(name: str, value: Any) -> jax.Array | np.ndarray:
    """`value` as an array; raises InputError unless it is floating-point [N, H, W, C] and not empty."""
    array = as_array(name, value)
    if array.ndim != 4 or not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(f"{name} must be floating-point [N, H, W, C], not {array.dtype} {list(array.shape)}")
    if not array.size:
        raise InputError(f"{name} must not be empty, but have shape {list(array.shape)}")
    return array


def check_key(name: str, value: Any) -> None:
    """Raise InputError unless `value` is a key of `jax.random`, in either of its two forms."""
    dtype, rank = getattr(value, "dtype", None), getattr(value, "ndim", None)
    typed = rank == 0 and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not typed and not (rank == 1 and dtype == jnp.uint32):
        raise InputError(f"{name} must be a key such as jax.random.key(0), not {value!r}")


@contextlib.contextmanager
def naming(what: str) -> Iterator[None]:
    """Make InputErrors, which begin with `what`, of what somebody else's function raises for its arguments."""
    try:
        yield
    except InputError:
        raise
    except (TypeError, ValueError, flax.errors.FlaxError) as error:
        raise InputError(f"{what}: {(str(error).splitlines() or [type(error).__name__])[0]}") from error


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raise InputError unless `value` is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name} is {value!r}, but must be one of {', '.join(choices)}")


def check_whole(name: str, value: Any, least: int = 1) -> None:
    """Raise InputError unless `value` is a whole number of at least `least`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise InputError(f"{name} must be a whole number, not {value!r}")
    if value < least:
        raise InputError(f"{name} must be at least {least}, not {value}")


def check_number(name: str, value: Any, *, least: float = -math.inf, above: float = -math.inf) -> None:
    """Raise InputError unless `value` is a finite number of at least `least` that is larger than `above`."""
    if isinstance(value, jax.Array):
        real = not value.ndim and jnp.issubdtype(value.dtype, jnp.floating)
    else:
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real:
        raise InputError(f"{name} must be a number, not {value!r}")
    if not abs(value) <= sys.float_info.max:
        raise InputError(f"{name} must be finite, not {value}")
    if value < least:
        raise InputError(f"{name} must be at least {least:g}, not {value}")
    if value <= above:
        raise InputError(f"{name} must be above {above:g}, not {value}")
