"""DeepLIFT with the rescale rule (Shrikumar, Greenside, Kundaje, ICML 2017, arXiv 1704.02685)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.tree_util import Partial

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

    Args:
        make_logits_fn: gives the network with other functions in the place of its `nn.relu` and `nn.max_pool`, such
            as `lambda activation, _: Partial(model.clone(activation=activation).apply, variables)` where nothing is
            pooled; what it returns is a `logits_fn`, see `coda_jax.attribution.protocol`.
        inputs: [N, H, W, C], floating-point.
        targets: see `coda_jax.attribution.protocol`.
        baseline: a number or an array that broadcasts to [H, W, C].
        chunk_size: see `coda_jax.attribution.protocol`.

    Returns:
        The attributions [N, T, H, W, C], see `coda_jax.attribution.protocol`.

    Raises:
        InputError: what `coda_jax.attribution.protocol` refuses; a baseline of another shape; or a `make_logits_fn`
            that is not callable.
    """
    check_callable("make_logits_fn", make_logits_fn)
    baseline = check_baseline(baseline, inputs)
    rescaled = make_logits_fn(rescaled_activation, rescaled_max_pool)
    if not isinstance(rescaled, Partial):
        rescaled = Partial(rescaled)
    logits_fn = make_logits_fn(nn.relu, nn.max_pool)
    return attribute(_rule, logits_fn, inputs, targets, rescaled, baseline, chunk_size=chunk_size)


def _rule(
    logits_fn: LogitsFn, inputs: jax.Array, targets: jax.Array, rescaled: LogitsFn, baseline: jax.Array
) -> jax.Array:
    baseline = jnp.broadcast_to(baseline, inputs.shape)

    def logits(inputs: jax.Array) -> jax.Array:
        return rescaled(jnp.concatenate([inputs, baseline]))[: len(inputs)]

    return (inputs - baseline)[:, None] * target_gradients(logits, inputs, targets)


def rescaled_activation(x: jax.Array, function: Callable[[jax.Array], jax.Array] = nn.relu) -> jax.Array:
    """An element-wise function of activations [2n, ...], at n inputs and then at their baselines."""
    x, x0 = jnp.split(x, 2)
    return _secant(function, x, lax.stop_gradient(x0))


def rescaled_max_pool(x: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
    """`nn.max_pool` of activations [2n, H, W, C], at n inputs and then at their baselines."""
    x, x0 = jnp.split(x, 2)
    return _pooled(lambda x: nn.max_pool(x, *args, **kwargs), x, lax.stop_gradient(x0))


def _secant(function: Callable[[jax.Array], jax.Array], x: jax.Array, x0: jax.Array) -> jax.Array:
    """An element-wise function of an activation; its slope between `x0` and `x` takes the derivative's place."""
    held = lax.stop_gradient(x)
    y, pull_back = jax.vjp(function, held)
    (derivative,) = pull_back(jnp.ones_like(y))
    y0 = function(x0)
    # Where the function is straight up to rounding, the difference of its values may be nothing but rounding.
    rounding = 4 * jnp.finfo(y.dtype).eps * (jnp.abs(y) + jnp.abs(y0))
    straight = jnp.abs(y - y0 - derivative * (held - x0)) <= rounding
    slope = jnp.where(straight, derivative, (y - y0) / jnp.where(straight, 1, held - x0))
    return jnp.concatenate([y + slope * (x - held), y0])


def _pooled(pool: Callable[[jax.Array], jax.Array], x: jax.Array, x0: jax.Array) -> jax.Array:
    """The maximum over windows; its rise from `x0` to `x` is due to where it is in `x`, its fall to where it was."""
    held = lax.stop_gradient(x)
    change = held - x0
    y, y0 = pool(held), pool(x0)
    share = (x - held) / jnp.where(change == 0, 1, change)
    unchanged = jnp.where(change == 0, x - held, 0)

    def at_maximum(of: jax.Array, values: jax.Array) -> jax.Array:
        return jax.jvp(pool, (of,), (values,))[1]

    rise, fall = jnp.maximum(y - y0, 0), jnp.minimum(y - y0, 0)
    passed_back = rise * at_maximum(held, share) + fall * at_maximum(x0, share)
    return jnp.concatenate([y + passed_back + at_maximum(held, unchanged), y0])
