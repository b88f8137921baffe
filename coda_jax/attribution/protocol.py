"""What all attribution methods agree on, and what carries it out.

    method(logits_fn, inputs, targets=None, *, ...) -> attributions

    logits_fn: any JAX function from inputs [n, H, W, C] to logits [n, K] that treats examples one by one. It is
        compiled together with what it closes over, anew for every new function;
        `jax.tree_util.Partial(model.apply, variables)` is compiled once for all values of the variables, and so are
        modules that are PyTrees, such as those of flax.nnx, and their methods.
    inputs: [N, H, W, C], floating-point, encoded as `logits_fn` takes them.
    targets: None for the predicted class (T = 1), "all" for every class (T = K), whole numbers [N] (T = 1) or [N, T].
    chunk_size: how many inputs are explained at a time, which bounds the memory; None for all at once.
    copies_at_once: takes the place of `chunk_size` in the methods that perturb each input many times. They explain one
        input at a time, and give so many perturbed copies of it to `logits_fn` at a time.
    attributions: [N, T, H, W, C], whatever the targets; T targets in one call cost less than T calls. Their sum over
        channels is the attribution of a pixel; where a method knows of pixels only, it spreads what it attributes to a
        pixel evenly over the channels. Computed with full matmul precision on all devices.

Inputs of another rank or dtype, targets of another shape or dtype, classes that do not exist (unless traced), and
settings out of range raise InputError.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from coda_jax.alignment.chunks import map_batches
from coda_jax.errors import InputError
from coda_jax.errors.checks import Targets, as_array, check_images, check_targets, check_whole, naming

LogitsFn = Callable[[jax.Array], jax.Array]


def attribute(
    rule: Callable[..., jax.Array],
    logits_fn: LogitsFn,
    inputs: jax.Array,
    targets: Targets,
    *arrays: jax.Array,
    chunk_size: int | None = 1,
    **settings: Any,
) -> jax.Array:
    """Apply a method's rule to all examples, `chunk_size` at a time, compiled; see the module for the rest.

    The rule is `rule(logits_fn, inputs [n, H, W, C], targets [n, T], *arrays, **settings)` -> [n, T, H, W, C], a
    function of a module, so that it is compiled once; other settings, which can be hashed, are compiled anew. Where
    `copies_at_once` is one of them, the classes of so many inputs are predicted at a time.
    """
    batch_size = settings.get("copies_at_once", chunk_size)
    if batch_size is not None:
        check_whole("copies_at_once" if "copies_at_once" in settings else "chunk_size", batch_size)
    logits_fn, inputs, pairs = check_arguments(logits_fn, inputs, targets, batch_size)
    return _attribute(rule, chunk_size, tuple(settings.items()), logits_fn, (inputs, pairs), arrays)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _attribute(
    rule: Callable, chunk_size: int | None, settings: tuple, logits_fn: LogitsFn, batch: tuple, arrays: tuple
) -> jax.Array:
    with jax.default_matmul_precision("highest"):
        return map_batches(lambda batch: rule(logits_fn, *batch, *arrays, **dict(settings)), batch, chunk_size)


@partial(jax.jit, static_argnums=2)
def compute_logits(logits_fn: LogitsFn, inputs: jax.Array, batch_size: int | None = None) -> jax.Array:
    """`logits_fn(inputs)`, `batch_size` at a time, compiled once where `logits_fn` is a `jax.tree_util.Partial`."""
    # In a trace of its own, where flax.nnx refuses what a network in training mode would do: change its averages.
    with jax.default_matmul_precision("highest"):
        return map_batches(jax.jit(lambda batch: logits_fn(batch)), inputs, batch_size)


def spread(pixels: jax.Array, channels: int) -> jax.Array:
    """The attributions [..., H, W] of pixels, spread evenly over channels: [..., H, W, C]."""
    return jnp.broadcast_to(pixels[..., None] / channels, (*pixels.shape, channels))


def check_arguments(
    logits_fn: LogitsFn, inputs: jax.Array, targets: Targets, batch_size: int | None
) -> tuple[Partial, jax.Array, jax.Array]:
    """What every method is given, as a `Partial`, inputs [N, H, W, C] and targets [N, T].

    Classes are predicted of `batch_size` inputs at a time. Logits that are not floating-point [N, K] raise InputError.
    """
    logits_fn = check_callable("logits_fn", logits_fn)
    inputs = jnp.asarray(check_images("inputs", inputs))
    with naming(f"logits_fn cannot take inputs of {inputs.dtype} {list(inputs.shape)}"):
        logits = jax.eval_shape(compute_logits, logits_fn, inputs)
    if not isinstance(logits, jax.ShapeDtypeStruct) or not jnp.issubdtype(logits.dtype, jnp.floating):
        raise InputError(f"logits_fn must return floating-point logits, not {logits}")
    if len(logits.shape) != 2 or logits.shape[0] != inputs.shape[0]:
        raise InputError(f"logits_fn must return logits of shape [{inputs.shape[0]}, K], not {list(logits.shape)}")
    if targets is None:
        targets = jnp.argmax(compute_logits(logits_fn, inputs, batch_size), axis=-1)
    return logits_fn, inputs, check_targets(targets, *logits.shape)


def check_callable(name: str, value: Any) -> Partial:
    """A function as a `Partial`, which compiled functions can be given; raises InputError for what is no function."""
    if not callable(value):
        raise InputError(f"{name} must be a function, not {value!r}")
    if isinstance(value, Partial):
        return value
    method = value if inspect.ismethod(value) else value.__call__
    if inspect.ismethod(method) and not jax.tree_util.all_leaves([method.__self__]):
        # Compiled in, a module's values would stay what they were, although training changes them in place.
        return Partial(method.__func__, method.__self__)
    return Partial(value)


def check_baseline(name: str, value: jax.Array | float, inputs: jax.Array) -> jax.Array:
    """Values that take the inputs' place, [H, W, C]; raises InputError unless they broadcast to that."""
    value, inputs = as_array(name, value), check_images("inputs", inputs)
    shape = inputs.shape[1:]
    with naming(f"{name} must broadcast to the inputs' {list(shape)}, but has shape {list(value.shape)}"):
        return jnp.broadcast_to(jnp.asarray(value, jnp.result_type(inputs)), shape)
