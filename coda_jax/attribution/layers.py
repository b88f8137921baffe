"""The layers of a Flax linen network, seen from outside while a function calls them.

A layer is named by the path of its module, such as "layers_3" or "Block_2/Conv_1"; its output is the first array that
the module returns.
"""

import difflib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.tree_util import Partial

from coda_jax.attribution.protocol import LogitsFn, check_callable, compute_logits
from coda_jax.errors import InputError
from coda_jax.errors.checks import check_images


def split(logits_fn: LogitsFn, inputs: jax.Array, layer: str) -> tuple[Partial, Partial]:
    """A network in two parts: from inputs to the layer's output [n, h, w, K], and from there to the logits.

    Each can be called, and every method of `coda_jax.attribution` explains the second, as it does the whole network.

    Args:
        logits_fn: a function that calls Flax linen modules, outside of `jax.jit`.
        inputs: [N, H, W, C], one or a few such as those that will be explained; the parts take any number of them.
        layer: the path of a module that is called once, outside of `nn.remat`, and whose output is all that the logits
            depend on, as is not so beside a shortcut. Others raise InputError.
    """
    logits_fn, inputs = check_callable("logits_fn", logits_fn), check_images("inputs", inputs)
    find_output(logits_fn, inputs, layer)

    def before(logits_fn: LogitsFn, inputs: jax.Array) -> jax.Array:
        outputs: list[jax.Array] = []

        def keep(path: str, found: jax.Array) -> jax.Array:
            if path == layer:
                outputs.append(found)
            return found

        call(logits_fn, inputs, keep)
        return outputs[0]

    def after(logits_fn: LogitsFn, output: jax.Array) -> jax.Array:
        # Where something of the input goes around the layer, there are no logits rather than wrong ones.
        unknown = jnp.full((len(output), *inputs.shape[1:]), jnp.nan, inputs.dtype)
        return call(logits_fn, unknown, lambda path, found: output.astype(found.dtype) if path == layer else found)

    parts = Partial(before, logits_fn), Partial(after, logits_fn)
    in_sequence = Partial(lambda parts, inputs: parts[1](parts[0](inputs)), parts)
    if np.any(np.isnan(compute_logits(in_sequence, inputs)) & ~np.isnan(compute_logits(logits_fn, inputs))):
        raise InputError(f'"{layer}" must be a layer whose output is all that the logits depend on')
    return parts


def call(logits_fn: LogitsFn, inputs: jax.Array, replace: Callable[[str, jax.Array], jax.Array]) -> jax.Array:
    """`logits_fn(inputs)`, with `replace(path, output)` in the place of every layer's output."""

    def intercept(method: Callable[..., Any], args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        arrays, structure = jax.tree.flatten(method(*args, **kwargs))
        if context.method_name == "__call__" and arrays:
            arrays[0] = replace("/".join(context.module.path), arrays[0])
        return jax.tree.unflatten(structure, arrays)

    with nn.intercept_methods(intercept):
        return logits_fn(inputs)


def find_output(logits_fn: LogitsFn, inputs: jax.Array, layer: str) -> jax.ShapeDtypeStruct:
    """The shape and dtype of a layer's output; raises InputError unless it is called once, and returns [N, h, w, K]."""
    outputs: dict[str, list[jax.ShapeDtypeStruct]] = {}

    def note(path: str, output: jax.Array) -> jax.Array:
        outputs.setdefault(path, []).append(jax.ShapeDtypeStruct(jnp.shape(output), jnp.result_type(output)))
        return output

    for _ in range(2):  # What is compiled calls its modules once, and not again.
        known = list(outputs)
        outputs.clear()
        jax.eval_shape(lambda inputs: call(logits_fn, inputs, note), inputs)
    if layer in known and layer not in outputs:
        raise InputError(f'layer must be called outside of jax.jit, but "{layer}" is called inside')
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
    check_output(f'layer "{layer}"', output, len(inputs))
    return output


def check_output(name: str, output: jax.Array | jax.ShapeDtypeStruct, examples: int) -> None:
    """Raise InputError unless it is floating-point [N, h, w, K]."""
    shape, dtype = jnp.shape(output), jnp.result_type(output)
    if len(shape) != 4 or shape[0] != examples or not jnp.issubdtype(dtype, jnp.floating):
        raise InputError(f"{name} must return floating-point [{examples}, h, w, K], not {dtype} {list(shape)}")
