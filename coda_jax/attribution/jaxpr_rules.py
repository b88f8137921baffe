"""Evaluate a function operation by operation, by rules that may differ from JAX's own.

Some attribution methods change what an operation passes back. JAX writes down a function's operations as a jaxpr;
here it is run again, and a rule says for every operation what it returns.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

Rule = Callable[[JaxprEqn, list[Any]], Sequence[Any]]

_PARAMETER_OF_CALL = {
    "jit": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}


def evaluate(function: ClosedJaxpr | Jaxpr, operands: Sequence[Any], rule: Rule) -> list[Any]:
    """What a function returns where `rule(operation, operands)` gives what each of its operations returns.

    Args:
        function: as from `jax.make_jaxpr`, or from `called_function`.
        operands: what it is called with, of any types that the rule understands; constants are given to it as arrays.
        rule: from an operation and its operands to its results; `apply` is JAX's own.
    """
    jaxpr = getattr(function, "jaxpr", function)
    values = dict(zip(jaxpr.constvars, getattr(function, "consts", ()), strict=True))
    values.update(zip(jaxpr.invars, operands, strict=True))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else values[variable]

    for operation in jaxpr.eqns:
        results = rule(operation, [read(variable) for variable in operation.invars])
        values.update(zip(operation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def apply(operation: JaxprEqn, operands: Sequence[jax.Array]) -> Sequence[jax.Array]:
    """The results of an operation on arrays, with JAX's own derivative."""
    results = operation.primitive.bind(*operands, **operation.primitive.get_bind_params(operation.params))
    return results if operation.primitive.multiple_results else [results]


def called_function(operation: JaxprEqn) -> ClosedJaxpr | Jaxpr | None:
    """The function that an operation only calls, once and with its own operands; None where it does anything else."""
    parameter = _PARAMETER_OF_CALL.get(operation.primitive.name)
    return operation.params[parameter] if parameter else None
