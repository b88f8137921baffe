"""Losses of CoDA-Nets."""

import jax
import jax.numpy as jnp
import optax


def binary_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Binary cross-entropy with logits of every class against all others, the paper's loss.

    Args:
        logits: [N, K], floating.
        labels: [N], whole numbers in [0, K).

    Returns:
        [N], the mean over the classes for each example, in nats.
    """
    one_hot = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, one_hot), axis=-1)
