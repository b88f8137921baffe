"""Losses of CoDA-Nets."""

import jax
import jax.numpy as jnp
import optax

from coda_jax.checks import as_array
from coda_jax.errors import InputError
from coda_jax.targets import check_targets


def binary_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Binary cross-entropy with logits of every class against all others, the paper's loss.

    Args:
        logits: [N, K], floating.
        labels: [N], whole numbers in [0, K).

    Returns:
        [N], the mean over the classes for each example, in nats.

    Raises:
        InputError: other shapes or dtypes, or (unless traced) a class that does not exist.
    """
    logits, labels = as_array("logits", logits), as_array("labels", labels)
    if logits.ndim != 2 or not jnp.issubdtype(logits.dtype, jnp.floating):
        raise InputError(f"logits must be floating-point [N, K], not {logits.dtype} {list(logits.shape)}")
    if labels.ndim != 1:
        raise InputError(f"labels must have shape [{logits.shape[0]}], not {list(labels.shape)}")
    labels = check_targets(labels, *logits.shape, name="labels")[:, 0]
    one_hot = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, one_hot), axis=-1)
