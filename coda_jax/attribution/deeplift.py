"""DeepLIFT with the rescale rule (Shrikumar, Greenside, Kundaje, ICML 2017, arXiv 1704.02685)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from coda_jax.attribution.gradient import target_gradients
from coda_jax.attribution.protocol import LogitsFn, attribute, check_baseline, check_callable
from coda_jax.checks import Targets


def deeplift(
    make_logits_fn: Callable[[Callable[..., jax.Array], Callable[..., jax.Array]], LogitsFn],
    inputs: jax.Array,
    targets: Targets = None,
    *,
    baseline: jax.Array | float = 0.0,
    chunk_size: int | None = 64,
) -> jax.Array:
    """Every input value's difference from a baseline, times a gradient with the slopes between the two.

    Where a ReLU `f` of an activation has the derivative `f'(x)` in the gradient, it has `(f(x) - f(x₀)) / (x - x₀)`
    here, where `x₀` is the activation at the baseline. Max pooling passes the difference of its outputs back to where
    the larger of the two is, as captum does. If all else in the network is linear, the attributions sum to the
    difference of the logits of the input and of the baseline; that it is linear is not checked.

    See `coda_jax.attribution.protocol` for the other arguments and the result.

    Args:
        make_logits_fn: gives the `logits_fn` of the network with other functions in the place of its `nn.relu` and
            `nn.max_pool`, such as `lambda activation, _: Partial(model.clone(activation=activation).apply, variables)`
            where nothing is pooled.
        baseline: a number or an array that broadcasts to [H, W, C].
    """
    check_callable("make_logits_fn", make_logits_fn)
    rescaled = make_logits_fn(rescaled_activation, rescaled_max_pool)
    arrays = check_callable("what make_logits_fn gives", rescaled), check_baseline("baseline", baseline, inputs)
    logits_fn = make_logits_fn(nn.relu, nn.max_pool)
    return attribute(_rule, logits_fn, inputs, targets, *arrays, chunk_size=chunk_size)


def _rule(
    logits_fn: LogitsFn, inputs: jax.Array, targets: jax.Array, rescaled: LogitsFn, baseline: jax.Array
) -> jax.Array:
    def logits(inputs: jax.Array) -> jax.Array:
        return rescaled(jnp.concatenate([inputs, jnp.broadcast_to(baseline, inputs.shape)]))[: len(inputs)]

    return (inputs - baseline)[:, None] * target_gradients(logits, inputs, targets)


def rescaled_activation(x: jax.Array, function: Callable[[jax.Array], jax.Array] = nn.relu) -> jax.Array:
    """An element-wise function of activations [2n, ...], at n inputs and then at their baselines.

    The slope between the two takes the derivative's place.
    """
    x, x0 = jnp.split(x, 2)
    held, x0 = lax.stop_gradient((x, x0))
    y, pull_back = jax.vjp(function, held)
    (derivative,) = pull_back(jnp.ones_like(y))
    y0 = function(x0)
    # Where the function is straight up to rounding, the difference of its values may be nothing but rounding.
    rounding = 4 * jnp.finfo(y.dtype).eps * (jnp.abs(y) + jnp.abs(y0))
    straight = jnp.abs(y - y0 - derivative * (held - x0)) <= rounding
    slope = jnp.where(straight, derivative, (y - y0) / jnp.where(straight, 1, held - x0))
    return jnp.concatenate([y + slope * (x - held), y0])


def rescaled_max_pool(x: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
    """`nn.max_pool` of activations [2n, H, W, C], at n inputs and then at their baselines.

    The maximum's rise from the baseline is due to where it is at the input, its fall to where it was at the baseline.
    """
    x, x0 = jnp.split(x, 2)
    held, x0 = lax.stop_gradient((x, x0))

    def pool(x: jax.Array) -> jax.Array:
        return nn.max_pool(x, *args, **kwargs)

    def at_maximum(of: jax.Array, values: jax.Array) -> jax.Array:
        return jax.jvp(pool, (of,), (values,))[1]

    y, y0, change = pool(held), pool(x0), held - x0
    share = (x - held) / jnp.where(change == 0, 1, change)
    unchanged = jnp.where(change == 0, x - held, 0)
    rise, fall = jnp.maximum(y - y0, 0), jnp.minimum(y - y0, 0)
    passed_back = rise * at_maximum(held, share) + fall * at_maximum(x0, share)
    return jnp.concatenate([y + passed_back + at_maximum(held, unchanged), y0])
