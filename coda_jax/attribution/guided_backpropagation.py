"""Guided backpropagation (Springenberg, Dosovitskiy, Brox, Riedmiller, 2014, arXiv 1412.6806)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxprs_in_params

from coda_jax.attribution.gradient import target_gradients
from coda_jax.attribution.jaxpr_rules import apply, called_function, evaluate
from coda_jax.attribution.protocol import LogitsFn, attribute
from coda_jax.errors import InputError
from coda_jax.targets import Targets


def guided_backpropagation(
    logits_fn: LogitsFn, inputs: jax.Array, targets: Targets = None, *, chunk_size: int | None = 64
) -> jax.Array:
    """The gradient in which every ReLU passes back only what is positive, and only where its input is.

    A ReLU is `jax.nn.relu` or `jnp.maximum(x, 0)`. `jnp.maximum(0, x)` is none, as normalisation layers bound variances
    with it. All other operations, ReLU6 and softplus among them, pass back their ordinary gradient.

    Args:
        logits_fn: see `coda_jax.attribution.protocol`.
        inputs: [N, H, W, C], floating-point.
        targets: see `coda_jax.attribution.protocol`.
        chunk_size: see `coda_jax.attribution.protocol`.

    Returns:
        The attributions [N, T, H, W, C], see `coda_jax.attribution.protocol`.

    Raises:
        InputError: what `coda_jax.attribution.protocol` refuses; a network without ReLUs, such as a CoDA-Net, or
            with ReLUs inside of a loop or a branch (`jax.lax.scan`, `while_loop`, `cond`).
    """
    return attribute(_rule, logits_fn, inputs, targets, chunk_size=chunk_size)


def _rule(logits_fn: LogitsFn, inputs: jax.Array, targets: jax.Array) -> jax.Array:
    function = jax.make_jaxpr(logits_fn)(inputs)
    if not _has_relu(function):
        raise InputError("guided backpropagation is defined by a network's ReLUs, and this one has none")
    return target_gradients(lambda inputs: evaluate(function, [inputs], _guide)[0], inputs, targets)


def _guide(operation: JaxprEqn, operands: Sequence[jax.Array]) -> Sequence[jax.Array]:
    """The results of an operation, in which ReLUs are guided."""
    if _is_maximum_with_0(operation):
        return [_guided_relu(operands[0])]
    if not _contains_relu(operation):
        return apply(operation, operands)
    function = called_function(operation)
    if function is None:
        raise InputError(
            f"guided backpropagation cannot reach this network's ReLUs inside of {operation.primitive.name}: "
            "write them outside of loops and branches"
        )
    return evaluate(function, operands, _guide)


@jax.custom_vjp
def _guided_relu(x: jax.Array) -> jax.Array:
    return jnp.maximum(x, 0)


_guided_relu.defvjp(
    lambda x: (jnp.maximum(x, 0), x > 0),
    lambda positive, cotangent: (jnp.where(positive & (cotangent > 0), cotangent, 0),),
)


def _has_relu(function: ClosedJaxpr | Jaxpr, *, alone: bool = False) -> bool:
    """Whether a function has a ReLU; `alone` counts a maximum only where nothing else is computed beside it."""
    operations = getattr(function, "jaxpr", function).eqns
    return any(
        (_is_maximum_with_0(operation) and (len(operations) == 1 or not alone))
        or _contains_relu(operation, alone=alone)
        for operation in operations
    )


def _contains_relu(operation: JaxprEqn, *, alone: bool = False) -> bool:
    """Whether a function that an operation calls has a ReLU."""
    # With a derivative of their own come jax.nn.relu, and relu6, which takes a maximum besides other things.
    alone = alone or operation.primitive.name in ("custom_jvp_call", "custom_vjp_call")
    return any(_has_relu(function, alone=alone) for function in jaxprs_in_params(operation.params))


def _is_maximum_with_0(operation: JaxprEqn) -> bool:
    """Whether an operation is `max(x, 0)`, in this order, of floating-point numbers."""
    if operation.primitive.name != "max":
        return False
    second = operation.invars[1]
    return isinstance(second, Literal) and second.val == 0 and jnp.issubdtype(second.aval.dtype, jnp.floating)
