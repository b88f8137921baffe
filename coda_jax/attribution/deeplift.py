"""DeepLIFT with the rescale rule (Shrikumar, Greenside, Kundaje, ICML 2017, arXiv 1704.02685)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from coda_jax.attribution.gradient import target_gradients
from coda_jax.attribution.protocol import LogitsFn, attribute, check_baseline, check_callable
from coda_jax.errors.checks import Targets


def deeplift(
    make_logits_fn: Callable[..., LogitsFn],
    inputs: jax.Array,
    targets: Targets = None,
    *,
    baseline: jax.Array | float = 0.0,
    chunk_size: int | None = 64,
) -> jax.Array:
    """Every input value's difference from a baseline, times a gradient with the slopes between the two.

    Where a ReLU `f` has the derivative `f'(x)` in the gradient, it has `(f(x) - f(x₀)) / (x - x₀)` here, where `x₀` is
    its input at the baseline. Max pooling passes the difference of its outputs back to where the larger of the two is,
    as captum does. If all else in the network is linear, which is not checked, the attributions sum to the difference
    of the logits of the input and of the baseline. For the rest see `coda_jax.attribution.protocol`.

    Args:
        make_logits_fn: from functions that take the place of the network's `nn.relu` and `nn.max_pool` to its
            `logits_fn`, such as `lambda relu, _: Partial(model.clone(activation=relu).apply, variables)` if nothing
            is pooled.
        baseline: a number or an array that broadcasts to [H, W, C].
    """
    check_callable("make_logits_fn", make_logits_fn)
    rescaled = make_logits_fn(rescaled_activation, rescaled_max_pool)
    arrays = check_callable("what make_logits_fn gives", rescaled), check_baseline("baseline", baseline, inputs)
    return attribute(_rule, make_logits_fn(nn.relu, nn.max_pool), inputs, targets, *arrays, chunk_size=chunk_size)


def _rule(
    logits_fn: LogitsFn, inputs: jax.Array, targets: jax.Array, rescaled: LogitsFn, baseline: jax.Array
) -> jax.Array:
    def logits(inputs: jax.Array) -> jax.Array:
        return rescaled(jnp.concatenate([inputs, jnp.broadcast_to(baseline, inputs.shape)]))[: len(inputs)]

    return (inputs - baseline)[:, None] * target_gradients(logits, inputs, targets)


def rescaled_activation(x: jax.Array) -> jax.Array:
    """The ReLU, with slopes in the place of derivatives, of [2n, ...]: at n inputs and then at their baselines."""
    x, x0 = jnp.split(x, 2)
    held, x0 = lax.stop_gradient((x, x0))
    y, y0, change = nn.relu(held), nn.relu(x0), held - x0
    slope = jnp.where(change == 0, held > 0, (y - y0) / jnp.where(change == 0, 1, change))
    return jnp.concatenate([y + slope * (x - held), y0])


def rescaled_max_pool(x: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
    """`nn.max_pool` of [2n, H, W, C]: at n inputs and then at their baselines."""
    x, x0 = jnp.split(x, 2)
    held, x0 = lax.stop_gradient((x, x0))

    def pool(x: jax.Array) -> jax.Array:
        return nn.max_pool(x, *args, **kwargs)

    def at_maximum(of: jax.Array, values: jax.Array) -> jax.Array:
        return jax.jvp(pool, (of,), (values,))[1]

    y, y0, change = pool(held), pool(x0), held - x0
    share = (x - held) / jnp.where(change == 0, 1, change)
    unchanged = jnp.where(change == 0, x - held, 0)
    # The maximum's rise is due to where it is at the input, its fall to where it was at the baseline.
    rise, fall = jnp.maximum(y - y0, 0), jnp.minimum(y - y0, 0)
    passed_back = rise * at_maximum(held, share) + fall * at_maximum(x0, share)
    return jnp.concatenate([y + passed_back + at_maximum(held, unchanged), y0])
