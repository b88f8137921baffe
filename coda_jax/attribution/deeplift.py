"""DeepLIFT with the rescale rule (Shrikumar, Greenside, Kundaje, ICML 2017, arXiv 1704.02685)."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from coda_jax.attribution.gradient import target_gradients
from coda_jax.attribution.jaxpr_rules import apply, called_function, evaluate
from coda_jax.attribution.protocol import LogitsFn, attribute, check_baseline
from coda_jax.errors import InputError
from coda_jax.targets import Targets

# Linear in all operands together but for indices and conditions, which are not floating-point and so no activations.
_LINEAR = set(
    "add add_any broadcast_in_dim concatenate convert_element_type copy cumsum dynamic_slice "
    "dynamic_update_slice gather name neg optimization_barrier pad reduce_sum reduce_window_sum reshape rev scatter "
    "scatter-add select_n sharding_constraint slice split squeeze stack sub tile transpose unstack".split()
)
# Linear in either operand alone.
_PRODUCTS = {"mul", "dot_general", "conv_general_dilated"}
# One number from one of every operand.
_ELEMENTWISE = set(
    "abs acos acosh add and asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type copy cos cosh div "
    "eq erf erf_inv erfc exp exp2 expm1 floor ge gt integer_pow is_finite le log log1p log2 logistic lt max min mul ne "
    "neg not or pow rem round rsqrt select_n sign sin sinh sqrt square sub tan tanh".split()
)
_REFUSED = {
    **dict.fromkeys(_PRODUCTS, "multiplies activations with one another"),
    "div": "divides activations by one another",
    **dict.fromkeys(("max", "reduce_max"), "takes the largest of several activations"),
    **dict.fromkeys(("eq", "ge", "gt", "le", "lt", "ne"), "compares activations"),
    **dict.fromkeys(("scan", "while"), "computes activations in a loop"),
    "cond": "computes activations in a branch",
}


def deeplift(
    logits_fn: LogitsFn,
    inputs: jax.Array,
    targets: Targets = None,
    *,
    baseline: jax.Array | float = 0.0,
    chunk_size: int | None = 64,
) -> jax.Array:
    """Every input value's difference from a baseline, times a gradient with the slopes between the two.

    Where an element-wise function `f` of an activation has the derivative `f'(x)` in the gradient, it has
    `(f(x) - f(x₀)) / (x - x₀)` here, where `x₀` is the activation at the baseline. The attributions sum to the
    difference of the logits of the input and of the baseline.

    The network may consist of operations that are linear in the activations, of element-wise functions of one
    activation, and of max pooling, which passes the difference of its outputs back to where the larger of the two is,
    as captum does. An element-wise function of several operations is recognised where `jax.jit` encloses it, as it does
    `jax.nn.silu`.

    Args:
        logits_fn: see `coda_jax.attribution.protocol`.
        inputs: [N, H, W, C], floating-point.
        targets: see `coda_jax.attribution.protocol`.
        baseline: a number or an array that broadcasts to [H, W, C].
        chunk_size: see `coda_jax.attribution.protocol`.

    Returns:
        The attributions [N, T, H, W, C], see `coda_jax.attribution.protocol`.

    Raises:
        InputError: what `coda_jax.attribution.protocol` refuses; a baseline of another shape; or a network of other
            operations, such as a CoDA-Net, which multiplies activations with one another, or a loop (`jax.lax.scan`).
    """
    baseline = check_baseline(baseline, inputs)
    return attribute(_rule, logits_fn, inputs, targets, baseline, chunk_size=chunk_size)


class _Activation(NamedTuple):
    """What depends on the inputs, at the inputs and at the baseline; the former passes back DeepLIFT's multipliers."""

    at_inputs: jax.Array
    at_baseline: jax.Array


def _rule(logits_fn: LogitsFn, inputs: jax.Array, targets: jax.Array, baseline: jax.Array) -> jax.Array:
    function = jax.make_jaxpr(logits_fn)(inputs)
    baseline = jnp.broadcast_to(baseline, inputs.shape)

    def rescaled(inputs: jax.Array) -> jax.Array:
        (logits,) = evaluate(function, [_Activation(inputs, baseline)], _rescale)
        return logits.at_inputs if isinstance(logits, _Activation) else logits

    return (inputs - baseline)[:, None] * target_gradients(rescaled, inputs, targets)


def _rescale(operation: JaxprEqn, operands: Sequence[Any]) -> Sequence[Any]:
    """The results of an operation, as activations where any operand is one."""
    active = [isinstance(operand, _Activation) for operand in operands]
    if not any(active):
        return apply(operation, operands)
    if _is_linear(operation, active):
        both = [operand if isinstance(operand, _Activation) else (operand, operand) for operand in operands]
        results = (apply(operation, side) for side in zip(*both, strict=True))
        return [_Activation(*sides) for sides in zip(*results, strict=True)]
    if _is_elementwise(operation, active):
        place = active.index(True)

        def function(x: jax.Array) -> jax.Array:
            return apply(operation, [*operands[:place], x, *operands[place + 1 :]])[0]

        return [_secant(function, *operands[place])]
    called, name = called_function(operation), operation.primitive.name
    if name == "reduce_window_max":
        return [_pooled(lambda x: apply(operation, [x])[0], *operands[0])]
    if called is not None:
        return evaluate(called, operands, _rescale)
    if name == "scan":
        # If what it repeats is refused as well, that says more than that it is a loop.
        body = operation.params["jaxpr"]
        evaluate(
            body, [_first(operand, aval.ndim) for operand, aval in zip(operands, body.in_avals, strict=True)], _rescale
        )
    reason = _REFUSED.get(name, "applies this operation to activations")
    raise InputError(f"DeepLIFT is not defined for this network: it {reason} ({name})")


def _first(operand: Any, rank: int) -> Any:
    """What a scan's body gets in its first pass."""
    return jax.tree.map(lambda array: array[0] if np.ndim(array) > rank else array, operand)


def _is_linear(operation: JaxprEqn, active: Sequence[bool]) -> bool:
    """Whether an operation is linear in the operands that are active, all together."""
    name = operation.primitive.name
    linear = name in _LINEAR or (name in _PRODUCTS and sum(active) == 1) or (name == "div" and not active[1])
    return linear and _has_floating_results(operation)


def _is_elementwise(operation: JaxprEqn, active: Sequence[bool]) -> bool:
    """Whether an operation computes one number from each number of the only active operand."""
    shape = operation.invars[active.index(True)].aval.shape
    return (
        sum(active) == 1
        and [result.aval.shape for result in operation.outvars] == [shape]
        and _has_floating_results(operation)
        and _has_elementwise_parts(operation, active)
    )


def _has_elementwise_parts(operation: JaxprEqn, active: Sequence[bool]) -> bool:
    """Whether an operation, or the function that it calls, is element-wise in all that depends on active operands."""
    called = called_function(operation)
    if called is None:
        return operation.primitive.name in _ELEMENTWISE
    elementwise = []

    def follow(part: JaxprEqn, operands: Sequence[Any]) -> Sequence[bool]:
        active = [operand is True for operand in operands]
        elementwise.append(not any(active) or _has_elementwise_parts(part, active))
        return [any(active)] * len(part.outvars)

    evaluate(called, active, follow)
    return all(elementwise)


def _has_floating_results(operation: JaxprEqn) -> bool:
    return all(jnp.issubdtype(result.aval.dtype, jnp.floating) for result in operation.outvars)


def _secant(function: Callable[[jax.Array], jax.Array], x: jax.Array, x0: jax.Array) -> _Activation:
    """An element-wise function of an activation; its slope between `x0` and `x` takes the derivative's place."""
    held = lax.stop_gradient(x)
    y, pull_back = jax.vjp(function, held)
    (derivative,) = pull_back(jnp.ones_like(y))
    y0 = function(x0)
    # Where the function is straight up to rounding, the difference of its values may be nothing but rounding.
    rounding = 4 * jnp.finfo(y.dtype).eps * (jnp.abs(y) + jnp.abs(y0))
    straight = jnp.abs(y - y0 - derivative * (held - x0)) <= rounding
    slope = jnp.where(straight, derivative, (y - y0) / jnp.where(straight, 1, held - x0))
    return _Activation(y + slope * (x - held), y0)


def _pooled(pool: Callable[[jax.Array], jax.Array], x: jax.Array, x0: jax.Array) -> _Activation:
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
    return _Activation(y + passed_back + at_maximum(held, unchanged), y0)
