"""Grad-CAM (Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra, ICCV 2017, arXiv 1610.02391)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from coda_jax.attribution.gradient import target_gradients
from coda_jax.attribution.layers import call, check_output, find_output
from coda_jax.attribution.protocol import LogitsFn, attribute, check_callable, spread
from coda_jax.errors import InputError
from coda_jax.errors.checks import Targets


def gradcam(
    logits_fn: LogitsFn,
    inputs: jax.Array,
    targets: Targets = None,
    *,
    layer: str | None = None,
    features: Callable[[jax.Array], jax.Array] | None = None,
    chunk_size: int | None = 64,
) -> jax.Array:
    """The positive part of the sum of a layer's channels, each times its mean gradient.

    The map has the layer's resolution, and is interpolated bilinearly to the inputs'. No attribution is negative. For
    the rest see `coda_jax.attribution.protocol`. Either `layer` or `features` says which layer it is.

    Args:
        logits_fn: with `layer`, a function that calls Flax linen modules, outside of `jax.jit`; with `features`, any
            function from what `features` returns to the logits, the rest of the network.
        layer: the path of a module that `logits_fn` calls once, such as "layers_3" or "Block_2/Conv_1". It must return
            [N, h, w, K], or a tuple of which that is the first array.
        features: any function from inputs [n, H, W, C] to the layer's output [n, h, w, K], the network's first part.

    Examples:
        >>> inputs = jnp.array([[1.0, 1.0], [2.0, 0.0]]).reshape(1, 1, 2, 2)  # Two pixels with two channels.
        >>> def logits_fn(channels):
        ...     return (channels @ jnp.array([[4.0], [-2.0]])).mean((1, 2))  # The mean gradients are 2 and -1.
        >>> print(gradcam(logits_fn, inputs, targets=[0], features=lambda inputs: inputs).sum(-1))
        [[[[1. 4.]]]]
    """
    if (layer is None) == (features is None):
        raise InputError("Grad-CAM takes either a layer, by its path, or features, a function, and not both")
    if features is not None:
        parts = check_callable("features", features), check_callable("logits_fn", logits_fn)
        return attribute(_rule_of_parts, Partial(_in_sequence, *parts), inputs, targets, chunk_size=chunk_size)
    if not isinstance(layer, str):
        raise InputError(f"layer must be the path of a module, not {layer!r}")
    return attribute(_rule, logits_fn, inputs, targets, chunk_size=chunk_size, layer=layer)


def _in_sequence(features: Partial, logits_fn: LogitsFn, inputs: jax.Array) -> jax.Array:
    output = features(inputs)
    check_output("features", output, len(inputs))
    return logits_fn(output)


def _rule_of_parts(whole: Partial, inputs: jax.Array, targets: jax.Array) -> jax.Array:
    features, logits_fn = whole.args
    activation = features(inputs)
    return _weighed(activation[:, None], target_gradients(logits_fn, activation, targets), inputs)


def _weighed(activation: jax.Array, gradient: jax.Array, inputs: jax.Array) -> jax.Array:
    """The result from the layer's output [N, 1 or T, h, w, K] and its gradient [N, T, h, w, K]."""
    maps = jax.nn.relu(jnp.sum(jnp.mean(gradient, axis=(2, 3), keepdims=True) * activation, axis=-1))
    enlarged = jax.image.resize(maps, (*maps.shape[:2], *inputs.shape[1:3]), "bilinear")
    return spread(enlarged.astype(inputs.dtype), inputs.shape[-1])


def _rule(logits_fn: LogitsFn, inputs: jax.Array, targets: jax.Array, *, layer: str) -> jax.Array:
    output = find_output(logits_fn, inputs, layer)
    slot = jnp.zeros((output.shape[0], 2, *output.shape[1:]), output.dtype)

    def logits(slot: jax.Array) -> jax.Array:
        return call(logits_fn, inputs, lambda path, found: _report(found, slot) if path == layer else found)

    activation, gradient = jnp.moveaxis(target_gradients(logits, slot, targets).astype(inputs.dtype), 2, 0)
    return _weighed(activation, gradient, inputs)


# What a module inside of `nn.remat` computes comes out of there only as a gradient.
@jax.custom_vjp
def _report(activation: jax.Array, slot: jax.Array) -> jax.Array:
    """`activation` [n, h, w, K]; the gradient by `slot` [n, 2, h, w, K] is it and the gradient by it."""
    return activation


_report.defvjp(
    lambda activation, slot: (activation, activation),
    lambda activation, gradient: (gradient, jnp.stack([activation, gradient], axis=1)),
)
