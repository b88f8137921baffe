"""Input times gradient (Shrikumar, Greenside, Shcherbina, Kundaje, 2016, arXiv 1605.01713)."""

import jax

from coda_jax.attribution.gradient import target_gradients
from coda_jax.attribution.protocol import LogitsFn, attribute
from coda_jax.errors.checks import Targets


def input_x_gradient(
    logits_fn: LogitsFn, inputs: jax.Array, targets: Targets = None, *, chunk_size: int | None = 64
) -> jax.Array:
    """Every input value times the derivative of the targets' logits by it; see `coda_jax.attribution.protocol`.

    It sums to the logit where `logits_fn` is homogeneous, and so for networks of ReLUs without biases. For a CoDA-Net
    it differs from the contributions, as the gradient differentiates the dynamic weights as well.
    """
    return attribute(_rule, logits_fn, inputs, targets, chunk_size=chunk_size)


def _rule(logits_fn: LogitsFn, inputs: jax.Array, targets: jax.Array) -> jax.Array:
    return inputs[:, None] * target_gradients(logits_fn, inputs, targets)
