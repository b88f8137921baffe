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

Targets = jax.Array | np.ndarray | str | None
"""The classes that are explained: None for the predicted one, "all", or class numbers [N] or [N, T]."""


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


def check_targets(
    targets: jax.Array | np.ndarray | str, examples: int, classes: int, name: str = "targets"
) -> jax.Array:
    """Targets as whole numbers [N, T].

    Args:
        targets: "all" for every class (T = K), or class numbers, whole, [N] (T = 1) or [N, T].
        examples: N.
        classes: their number.
        name: of the argument, for messages.

    Raises:
        InputError: another dtype or shape, or (unless traced) a class that does not exist.
    """
    if isinstance(targets, str):
        if targets != "all":
            raise InputError(f'{name} must be None, "all", or class numbers, not "{targets}"')
        return jnp.broadcast_to(jnp.arange(classes), (examples, classes))
    targets = as_array(name, targets)
    fits = targets.ndim in (1, 2) and targets.shape[0] == examples and 0 not in targets.shape[1:]
    if not fits or not jnp.issubdtype(targets.dtype, jnp.integer):
        raise InputError(
            f"{name} must be whole numbers of shape [{examples}] or [{examples}, T], "
            f"not {targets.dtype} {list(targets.shape)}"
        )
    if not isinstance(targets, jax.core.Tracer):
        values = np.asarray(targets)  # Operations on JAX's own arrays would be traced where others are.
        outside = values[(values < 0) | (values >= classes)]
        if outside.size:
            raise InputError(
                f"{name.removesuffix('s')} {outside[0]} is not a class: classes go from 0 to {classes - 1}"
            )
    return jnp.asarray(targets if targets.ndim == 2 else targets[:, None])


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


def check_encoded(name: str, inputs: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """`inputs` as an array, or InputError unless it is [N, H, W, 6], floating and not empty; values may be any."""
    inputs = check_images(name, inputs)
    if inputs.shape[-1] != 6:
        raise InputError(
            f"{name} must have 6 channels, not {inputs.shape[-1]}: encode images with coda_jax.add_inverse"
        )
    return inputs
