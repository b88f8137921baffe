"""Checks of arguments. They raise InputError, with a line that names the argument, unless it is what it must be."""

import contextlib
import math
import numbers
from collections.abc import Iterator, Sequence
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np

from coda_jax.errors import InputError

Targets = jax.Array | np.ndarray | str | None
"""The classes that are explained: None for the predicted one, "all", or class numbers [N] or [N, T]."""


def as_array(name: str, value: Any) -> jax.Array | np.ndarray:
    """`value`, which must be made of real numbers; NumPy makes an array of it unless it is one of JAX's (or traced)."""
    try:
        array = value if isinstance(value, jax.Array) else np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be an array of numbers, not a {type(value).__name__}: {error}") from error
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise InputError(f"{name} must be an array of real numbers, not a {type(value).__name__} of {array.dtype}")
    return array


def check_images(name: str, value: Any, *, encoded: bool = False) -> jax.Array | np.ndarray:
    """`value` as an array, which must be floating-point [N, H, W, C] and not empty, with C = 6 if `encoded`."""
    array = as_array(name, value)
    if array.ndim != 4 or not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(f"{name} must be floating-point [N, H, W, C], not {array.dtype} {list(array.shape)}")
    if not array.size:
        raise InputError(f"{name} must not be empty, but have shape {list(array.shape)}")
    if encoded and array.shape[3] != 6:
        raise InputError(f"{name} must have 6 channels, not {array.shape[3]}: encode images with coda_jax.add_inverse")
    return array


def check_pixels(name: str, value: Any, channels: int) -> jax.Array | np.ndarray:
    """`value` as an array, which must be [N, H, W, channels], floating-point and, where not traced, in [0, 1]."""
    array = as_array(name, value)
    if array.ndim != 4 or array.shape[3] != channels:
        hint = "encode images with coda_jax.add_inverse" if channels == 6 else "stack RGB images, channels last"
        raise InputError(f"{name} must have shape [N, H, W, {channels}], not {list(array.shape)}: {hint}")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(f"{name} must be floating-point in [0, 1], not {array.dtype}: divide 8-bit pixels by 255")
    if not isinstance(array, jax.core.Tracer):
        values = np.asarray(array)  # Operations on JAX's own arrays would be traced where others are.
        low, high = np.min(values, initial=0.0), np.max(values, initial=0.0)
        if not (low >= 0 and high <= 1):
            raise InputError(f"{name} must lie in [0, 1], but range from {low:g} to {high:g}")
    return array


def check_targets(targets: Any, examples: int, classes: int, name: str = "targets") -> jax.Array:
    """Targets as whole numbers [N, T], of N `examples` and K `classes`; messages call them `name`.

    The argument is "all" for every class (T = K), or whole class numbers [N] (T = 1) or [N, T], which must be from 0 to
    K - 1 where they are not traced.
    """
    if isinstance(targets, str):
        if targets != "all":
            raise InputError(f'{name} must be None, "all", or class numbers, not "{targets}"')
        return jnp.broadcast_to(jnp.arange(classes), (examples, classes))
    targets = as_array(name, targets)
    fits = targets.ndim in (1, 2) and targets.shape[0] == examples and 0 not in targets.shape[1:]
    if not fits or not jnp.issubdtype(targets.dtype, jnp.integer):
        shape = f"{targets.dtype} {list(targets.shape)}"
        raise InputError(f"{name} must be whole numbers of shape [{examples}] or [{examples}, T], not {shape}")
    if not isinstance(targets, jax.core.Tracer):
        values = np.asarray(targets)  # As in `check_pixels`.
        outside = values[(values < 0) | (values >= classes)]
        if outside.size:
            one = name.removesuffix("s")
            raise InputError(f"{one} {outside[0]} is not a class: classes go from 0 to {classes - 1}")
    return jnp.asarray(targets if targets.ndim == 2 else targets[:, None])


def check_key(name: str, value: Any) -> None:
    """`value` must be a key of `jax.random`, in either of its two forms."""
    dtype, rank = getattr(value, "dtype", None), getattr(value, "ndim", None)
    typed = rank == 0 and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not typed and not (rank == 1 and dtype == jnp.uint32):
        raise InputError(f"{name} must be a key such as jax.random.key(0), not {value!r}")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """`value` must be one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name} is {value!r}, but must be one of {', '.join(choices)}")


def check_whole(name: str, value: Any, least: int = 1) -> None:
    """`value` must be a whole number of at least `least`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise InputError(f"{name} must be a whole number, not {value!r}")
    if value < least:
        raise InputError(f"{name} must be at least {least}, not {value}")


def check_number(name: str, value: Any, *, least: float = -math.inf, above: float = -math.inf) -> None:
    """`value` must be a finite number, of JAX's too, of at least `least` and larger than `above`."""
    scalar = isinstance(value, jax.Array) and not value.ndim and jnp.issubdtype(value.dtype, jnp.floating)
    if isinstance(value, bool) or not (scalar or isinstance(value, numbers.Real)):
        raise InputError(f"{name} must be a number, not {value!r}")
    finite = False
    with contextlib.suppress(OverflowError):  # Of whole numbers that are too large for a float.
        finite = math.isfinite(value)
    if not finite:
        raise InputError(f"{name} must be finite, not {value}")
    if value < least:
        raise InputError(f"{name} must be at least {least:g}, not {value}")
    if value <= above:
        raise InputError(f"{name} must be above {above:g}, not {value}")


@contextlib.contextmanager
def naming(what: str) -> Iterator[None]:
    """Make InputErrors, which begin with `what`, of what somebody else's function raises for its arguments."""
    try:
        yield
    except InputError:
        raise
    except (TypeError, ValueError, flax.errors.FlaxError) as error:
        raise InputError(f"{what}: {(str(error).splitlines() or [type(error).__name__])[0]}") from error
