"""What all attribution methods agree on, and what carries it out.

    method(logits_fn, inputs, targets=None, *, ...) -> attributions

    logits_fn: any JAX function from inputs [n, H, W, C] to logits [n, K] that treats examples one by one.
        `jax.tree_util.Partial(model.apply, variables)` is compiled once for all values of the variables, and what other
        functions close over is compiled in with them, anew for every new function.
    inputs: [N, H, W, C], floating, encoded as `logits_fn` takes them.
    targets: the classes to explain: None for the predicted class (T = 1), "all" for every class (T = K), whole numbers
        [N] (T = 1) or [N, T]. The convention is that of `coda_jax.contributions`.
    chunk_size: explain so many inputs at a time, which bounds the memory; None for all at once. The methods that
        perturb each input many times explain one input at a time, and have `copies_at_once` instead: how many
        perturbed copies of it are given to `logits_fn` at a time.
    attributions: [N, T, H, W, C], whatever the targets; T targets in one call cost less than T calls. Their sum over
        channels is the attribution of a pixel; where a method knows of pixels only, it spreads what it attributes to a
        pixel evenly over the channels. Computed with full matmul precision on all devices.

Inputs of another rank or dtype, targets of another shape or dtype, classes that do not exist (unless traced), and
settings out of range raise InputError.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from coda_jax.checks import Targets, as_array, check_images, check_targets, check_whole, naming
from coda_jax.chunks import map_batches
from coda_jax.errors import InputError

LogitsFn = Callable[[jax.Array], jax.Array]


def attribute(
    rule: Callable[..., jax.Array],
    logits_fn: LogitsFn,
    inputs: jax.Array,
    targets: Targets,
    *arrays: jax.Array,
    chunk_size: int | None,
    **settings: Any,
) -> jax.Array:
    """Apply a method's rule to all examples, a few at a time, compiled.

    Args:
        rule: `rule(logits_fn, inputs [n, H, W, C], targets [n, T], *arrays, **settings)` -> [n, T, H, W, C], a
            function of a module, so that it is compiled once.
        logits_fn: see the module.
        inputs: see the module.
        targets: see the module.
        arrays: further arguments of the rule, the same for all examples.
        chunk_size: n; None for all of N.
        settings: further arguments of the rule that can be hashed; another value is compiled anew.

    Returns:
        The attributions [N, T, H, W, C], see the module.
    """
    if chunk_size is not None:
        check_whole("chunk_size", chunk_size)
    logits_fn, inputs, pairs = check_arguments(logits_fn, inputs, targets, chunk_size)
    return _attribute(rule, chunk_size, tuple(settings.items()), logits_fn, inputs, pairs, arrays)


def check_arguments(
    logits_fn: LogitsFn, inputs: jax.Array, targets: Targets, chunk_size: int | None
) -> tuple[Partial, jax.Array, jax.Array]:
    """What every method is given, as a `Partial`, inputs [N, H, W, C] and targets [N, T].

    `chunk_size` inputs at a time are classified where targets are None.

    Raises:
        InputError: see the module; or logits that are not [N, K].
    """
    check_callable("logits_fn", logits_fn)
    if not isinstance(logits_fn, Partial):
        logits_fn = Partial(logits_fn)
    inputs = jnp.asarray(check_images("inputs", inputs))
    with naming(f"logits_fn cannot take inputs of {inputs.dtype} {list(inputs.shape)}"):
        logits = jax.eval_shape(compute_logits, logits_fn, inputs)
    if not isinstance(logits, jax.ShapeDtypeStruct) or not jnp.issubdtype(logits.dtype, jnp.floating):
        raise InputError(f"logits_fn must return floating-point logits, not {logits}")
    if len(logits.shape) != 2 or logits.shape[0] != inputs.shape[0]:
        raise InputError(f"logits_fn must return logits of shape [{inputs.shape[0]}, K], not {list(logits.shape)}")
    if targets is None:
        targets = jnp.argmax(compute_logits(logits_fn, inputs, chunk_size), axis=-1)
    return logits_fn, inputs, check_targets(targets, *logits.shape)


def check_callable(name: str, value: Any) -> None:
    """Raise InputError unless a value is a function."""
    if not callable(value):
        raise InputError(f"{name} must be a function, not {value!r}")


def check_baseline(baseline: jax.Array | np.ndarray | float, inputs: jax.Array) -> jax.Array:
    """A baseline in the inputs' dtype; raises InputError unless it broadcasts to an input [H, W, C]."""
    baseline, inputs = as_array("baseline", baseline), check_images("inputs", inputs)
    shape, wanted = baseline.shape, inputs.shape[1:]
    if len(shape) > 3 or any(size not in (1, other) for size, other in zip(shape[::-1], wanted[::-1], strict=False)):
        raise InputError(f"baseline must broadcast to the inputs' {list(wanted)}, but has shape {list(shape)}")
    return jnp.asarray(baseline, jnp.result_type(inputs))


def check_fill(fill: jax.Array | float, inputs: jax.Array) -> jax.Array:
    """The value that hides a part of an input, in the inputs' dtype; raises InputError unless it is a number."""
    fill = as_array("fill", fill)
    if fill.ndim:
        raise InputError(f"fill must be a number, not an array of shape {list(fill.shape)}")
    return jnp.asarray(fill, jnp.result_type(check_images("inputs", inputs)))


@partial(jax.jit, static_argnums=2)
def compute_logits(logits_fn: LogitsFn, inputs: jax.Array, chunk_size: int | None = None) -> jax.Array:
    """`logits_fn(inputs)`, `chunk_size` at a time, compiled once where `logits_fn` is a `jax.tree_util.Partial`."""
    with jax.default_matmul_precision("highest"):
        return map_batches(logits_fn, inputs, chunk_size)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _attribute(
    rule: Callable[..., jax.Array],
    chunk_size: int | None,
    settings: tuple[tuple[str, Any], ...],
    logits_fn: LogitsFn,
    inputs: jax.Array,
    targets: jax.Array,
    arrays: tuple[jax.Array, ...],
) -> jax.Array:
    def explain(batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        return rule(logits_fn, *batch, *arrays, **dict(settings))

    with jax.default_matmul_precision("highest"):
        return map_batches(explain, (inputs, targets), chunk_size)
