"""Grad-CAM (Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra, ICCV 2017, arXiv 1610.02391)."""

import difflib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from coda_jax.attribution.gradient import target_gradients
from coda_jax.attribution.protocol import LogitsFn, attribute, spread
from coda_jax.checks import Targets
from coda_jax.errors import InputError


def gradcam(
    logits_fn: LogitsFn, inputs: jax.Array, targets: Targets = None, *, layer: str, chunk_size: int | None = 64
) -> jax.Array:
    """The positive part of the sum of a layer's channels, each times its mean gradient.

    The map has the layer's resolution, and is interpolated bilinearly to the inputs'. No attribution is negative.

    See `coda_jax.attribution.protocol` for the other arguments and the result.

    Args:
        logits_fn: must call Flax linen modules, outside of `jax.jit`.
        layer: the path of a module that `logits_fn` calls once, such as "layers_3" or "Block_2/Conv_1". It returns
            [N, h, w, K], or a tuple of which that is the first array; else InputError is raised.
    """
    if not isinstance(layer, str):
        raise InputError(f"layer must be the path of a module, not {layer!r}")
    return attribute(_rule, logits_fn, inputs, targets, chunk_size=chunk_size, layer=layer)


def _rule(logits_fn: LogitsFn, inputs: jax.Array, targets: jax.Array, *, layer: str) -> jax.Array:
    output = _find_output(logits_fn, inputs, layer)
    calls = []

    def logits(slot: jax.Array) -> jax.Array:
        def replace(path: str, output: jax.Array) -> jax.Array:
            if path != layer:
                return output
            calls.append(path)
            return _report(output, slot)

        return _call(logits_fn, inputs, replace)

    slot = jnp.zeros((output.shape[0], 2, *output.shape[1:]), output.dtype)
    reports = target_gradients(logits, slot, targets).astype(inputs.dtype)
    if not calls:
        raise InputError(f'layer must be called outside of jax.jit, but "{layer}" is called inside')
    activation, gradient = reports[:, :, 0], reports[:, :, 1]
    maps = jax.nn.relu(jnp.sum(jnp.mean(gradient, axis=(2, 3), keepdims=True) * activation, axis=-1))
    pixels = jax.image.resize(maps, (*targets.shape, *inputs.shape[1:3]), "bilinear")
    return spread(pixels, inputs.shape[-1])


def _find_output(logits_fn: LogitsFn, inputs: jax.Array, layer: str) -> jax.ShapeDtypeStruct:
    """The shape and dtype of a layer's output, or an InputError that says why it is of no use."""
    outputs: dict[str, Any] = {}

    def record(path: str, output: jax.Array) -> jax.Array:
        outputs.setdefault(path, []).append(jax.ShapeDtypeStruct(jnp.shape(output), jnp.result_type(output)))
        return output

    jax.eval_shape(lambda inputs: _call(logits_fn, inputs, record), inputs)
    if not outputs:
        raise InputError("Grad-CAM needs a logits_fn that calls Flax linen modules, outside of jax.jit")
    if layer not in outputs:
        nearest = difflib.get_close_matches(layer, [path for path in outputs if path], n=8, cutoff=0)
        raise InputError(f'the network has no layer "{layer}"; the nearest names are {", ".join(nearest)}')
    output, *more = outputs[layer]
    if more:
        raise InputError(f'layer must be called once, but "{layer}" is called {1 + len(more)} times')
    if len(output.shape) != 4 or output.shape[0] != inputs.shape[0] or not jnp.issubdtype(output.dtype, jnp.floating):
        raise InputError(f'layer must return [N, h, w, K], but "{layer}" returns {output.dtype} {list(output.shape)}')
    return output


def _call(logits_fn: LogitsFn, inputs: jax.Array, replace: Callable[[str, jax.Array], jax.Array]) -> jax.Array:
    """`logits_fn(inputs)`, with `replace(path, array)` for the first array that each module returns."""

    def intercept(method: Callable[..., Any], args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        outputs = method(*args, **kwargs)
        arrays, structure = jax.tree.flatten(outputs)
        if context.method_name != "__call__" or not arrays:
            return outputs
        return jax.tree.unflatten(structure, [replace("/".join(context.module.path), arrays[0]), *arrays[1:]])

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
