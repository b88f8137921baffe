"""The gradient of a logit (Simonyan, Vedaldi, Zisserman, 2013, arXiv 1312.6034)."""

import jax

from coda_jax.attribution.protocol import LogitsFn, attribute
from coda_jax.errors.checks import Targets


def gradient(
    logits_fn: LogitsFn, inputs: jax.Array, targets: Targets = None, *, chunk_size: int | None = 64
) -> jax.Array:
    """The derivative of the targets' logits by every input value; see `coda_jax.attribution.protocol`."""
    return attribute(target_gradients, logits_fn, inputs, targets, chunk_size=chunk_size)


def target_gradients(logits_fn: LogitsFn, inputs: jax.Array, targets: jax.Array) -> jax.Array:
    """The gradients of the targets' logits: inputs [N, H, W, C], targets [N, T] -> [N, T, H, W, C]."""
    logits, pull_back = jax.vjp(logits_fn, inputs)
    one_hot = jax.nn.one_hot(targets, logits.shape[-1], dtype=logits.dtype)
    (gradients,) = jax.vmap(pull_back, in_axes=1, out_axes=1)(one_hot)
    return gradients
