"""Guided backpropagation (Springenberg, Dosovitskiy, Brox, Riedmiller, 2014, arXiv 1412.6806)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from coda_jax.attribution.gradient import target_gradients
from coda_jax.attribution.protocol import LogitsFn, attribute, check_callable
from coda_jax.errors.checks import Targets


def guided_backpropagation(
    make_logits_fn: Callable[..., LogitsFn], inputs: jax.Array, targets: Targets = None, *, chunk_size: int | None = 64
) -> jax.Array:
    """The gradient in which every ReLU passes back only what is positive, and only where its input is.

    For the rest see `coda_jax.attribution.protocol`.

    Args:
        make_logits_fn: from a function that takes the place of the network's ReLUs to its `logits_fn`, such as
            `lambda relu: Partial(model.clone(activation=relu).apply, variables)`.
    """
    check_callable("make_logits_fn", make_logits_fn)
    return attribute(target_gradients, make_logits_fn(guided_relu), inputs, targets, chunk_size=chunk_size)


@jax.custom_vjp
def guided_relu(x: jax.Array) -> jax.Array:
    """A ReLU of an array of any shape that passes back only what is positive."""
    return jnp.maximum(x, 0)


guided_relu.defvjp(
    lambda x: (jnp.maximum(x, 0), x > 0),
    lambda positive, cotangent: (jnp.where(positive & (cotangent > 0), cotangent, 0),),
)
