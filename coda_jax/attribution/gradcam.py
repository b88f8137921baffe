"""Grad-CAM (Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra, ICCV 2017, arXiv 1610.02391)."""

import difflib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.tree_util import Partial

from coda_jax.attribution.gradient import target_gradients
from coda_jax.attribution.protocol import LogitsFn, attribute, check_callable, spread
from coda_jax.checks import Targets
from coda_jax.errors import InputError


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
    _check_output("features", output, len(inputs))
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
    outputs: dict[str, list[jax.ShapeDtypeStruct]] = {}
    jax.eval_shape(lambda inputs: _call(logits_fn, inputs, outputs, {}), inputs)
    output = _find_output(outputs, layer, len(inputs))
    outputs.clear()
    slot = jnp.zeros((output.shape[0], 2, *output.shape[1:]), output.dtype)
    reports = target_gradients(lambda slot: _call(logits_fn, inputs, outputs, {layer: slot}), slot, targets)
    if not outputs:
        raise InputError(f'layer must be called outside of jax.jit, but "{layer}" is called inside')
    activation, gradient = jnp.moveaxis(reports.astype(inputs.dtype), 2, 0)
    return _weighed(activation, gradient, inputs)


def _find_output(outputs: dict[str, list[jax.ShapeDtypeStruct]], layer: str, examples: int) -> jax.ShapeDtypeStruct:
    """The one output of a layer; raises InputError if it is of no use."""
    if not outputs:
        raise InputError(
            "layer needs a logits_fn that calls Flax linen modules, outside of jax.jit: else give features"
        )
    if layer not in outputs:
        nearest = difflib.get_close_matches(layer, [path for path in outputs if path], n=8, cutoff=0)
        raise InputError(f'the network has no layer "{layer}"; the nearest names are {", ".join(nearest)}')
    output, *more = outputs[layer]
    if more:
        raise InputError(f'layer must be called once, but "{layer}" is called {1 + len(more)} times')
    _check_output(f'layer "{layer}"', output, examples)
    return output


def _check_output(name: str, output: jax.Array | jax.ShapeDtypeStruct, examples: int) -> None:
    """Raise InputError unless it is floating-point [N, h, w, K]."""
    shape, dtype = jnp.shape(output), jnp.result_type(output)
    if len(shape) != 4 or shape[0] != examples or not jnp.issubdtype(dtype, jnp.floating):
        raise InputError(f"{name} must return floating-point [{examples}, h, w, K], not {dtype} {list(shape)}")


def _call(logits_fn: LogitsFn, inputs: jax.Array, outputs: dict[str, list], slots: dict[str, jax.Array]) -> jax.Array:
    """`logits_fn(inputs)`, which also notes in `outputs` the first array of every module, and reports to its slot."""

    def intercept(method: Callable[..., Any], args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        arrays, structure = jax.tree.flatten(method(*args, **kwargs))
        if context.method_name == "__call__" and arrays:
            path, first = "/".join(context.module.path), arrays[0]
            outputs.setdefault(path, []).append(jax.ShapeDtypeStruct(jnp.shape(first), jnp.result_type(first)))
            if path in slots:
                arrays[0] = _report(first, slots[path])
        return jax.tree.unflatten(structure, arrays)

    with nn.intercept_methods(intercept):
        return logits_fn(inputs)


# What a module inside of `nn.remat` computes comes out of there only as a gradient.
@jax.custom_vjp
def _report(activation: jax.Array, slot: jax.Array) -> jax.Array:
    """`activation` [n, h, w, K]; the gradient by `slot` [n, 2, h, w, K] is it and the gradient by it."""
    return activation


_report.defvjp(
    lambda activation, slot: (activation, activation),
    lambda activation, gradient: (gradient, jnp.stack([activation, gradient], axis=1)),
)
