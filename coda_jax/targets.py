"""The classes whose logits are explained."""

import jax
import jax.numpy as jnp
import numpy as np

from coda_jax.errors import InputError


def check_targets(targets: jax.Array | np.ndarray, examples: int, classes: int) -> jax.Array:
    """Targets [N] or [N, T] as whole numbers [N, T].

    Args:
        targets: class numbers, whole.
        examples: N.
        classes: their number.

    Raises:
        InputError: another dtype or shape, or (unless traced) a class that does not exist.
    """
    if not isinstance(targets, jax.Array):
        targets = np.asarray(targets)
    if not jnp.issubdtype(targets.dtype, jnp.integer) or targets.ndim not in (1, 2) or targets.shape[0] != examples:
        raise InputError(
            f"targets must be whole numbers of shape [{examples}] or [{examples}, T], "
            f"not {targets.dtype} {list(targets.shape)}"
        )
    if not isinstance(targets, jax.core.Tracer):
        outside = np.asarray(targets)[(targets < 0) | (targets >= classes)]
        if outside.size:
            raise InputError(f"target {outside[0]} is not a class: classes go from 0 to {classes - 1}")
    return jnp.asarray(targets).reshape(examples, -1)
