"""The classes whose logits are explained."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from coda_jax.checks import as_array
from coda_jax.errors import InputError

Targets = jax.Array | np.ndarray | str | None


def resolve_targets(
    targets: Targets, examples: int, classes: int, compute_logits: Callable[[], jax.Array]
) -> jax.Array:
    """Targets in any of their forms as whole numbers [N, T].

    Args:
        targets: None for the predicted class (T = 1), "all" for every class (T = K), whole numbers [N] (T = 1) or
            [N, T].
        examples: N.
        classes: K.
        compute_logits: gives the logits [N, K]; called only where targets are None.

    Raises:
        InputError: another string; or what `check_targets` refuses.

    Examples:
        >>> print(resolve_targets(None, 2, 3, lambda: jnp.array([[0.0, 2.0, 1.0], [5.0, 4.0, 3.0]])))
        [[1]
         [0]]
    """
    if targets is None:
        return jnp.argmax(compute_logits(), axis=-1)[:, None]
    if isinstance(targets, str):
        if targets != "all":
            raise InputError(f'targets must be None, "all", or class numbers, not "{targets}"')
        return jnp.broadcast_to(jnp.arange(classes), (examples, classes))
    return check_targets(targets, examples, classes)


def check_targets(targets: jax.Array | np.ndarray, examples: int, classes: int, name: str = "targets") -> jax.Array:
    """Targets [N] or [N, T] as whole numbers [N, T].

    Args:
        targets: class numbers, whole.
        examples: N.
        classes: their number.
        name: of the argument, for messages.

    Raises:
        InputError: another dtype or shape, or (unless traced) a class that does not exist.
    """
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
