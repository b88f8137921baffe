"""The classes whose logits are explained."""

import jax
import jax.numpy as jnp
import numpy as np

from coda_jax.checks import as_array
from coda_jax.errors import InputError

Targets = jax.Array | np.ndarray | str | None
"""The classes that are explained: None for the predicted one, "all", or class numbers [N] or [N, T]."""


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
