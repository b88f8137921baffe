"""Compare what an accelerator computes with float64 on the CPU: the first phase of `benchmarks.accelerator`."""

import argparse
import os
import time
from collections.abc import Callable
from concurrent import futures
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import machine, ours
from benchmarks.phases import PRECISIONS, network, random_batch, tell
from coda_jax import CoDANet, add_inverse
from coda_jax.alignment.dau import FORMS, NORMS, DynamicLinear, dynamic_alignment
from coda_jax.contributions import contributions
from coda_jax.training.losses import binary_cross_entropy

TOLERANCES = {"float32": 1e-5, "tf32": 2e-2, "bfloat16": 2e-2}
"""The largest difference by precision, as a part of the array's largest value."""
THREE_LAYERS = {
    "channels": (16, 32, 10),
    "ranks": (64, 32, 64),
    "kernel_sizes": (3, 3, 1),
    "strides": (1, 2, 1),
    "paddings": (1, 1, 0),
}


def agreement(options: argparse.Namespace, deadline: float) -> bool:
    """The phase; all is well if no difference is larger than its tolerance.

    Of a network of three layers it compares the logits, with and without `CoDANet.with_gram`, the gradient of the loss,
    and contributions to one class and to all; of single layers in each form and norm the outputs, their gradient, and
    the transpose for one target and for three. The network that is measured is compared in float32 alone: over nine
    layers of random weights bfloat16's rounding grows beyond the tolerance, on a CPU, too.
    """
    deadline -= 2  # What is left out is told in time.
    device = jax.devices()[0]
    of_machine = {"device": device.device_kind, "platform": device.platform, **machine.describe()}
    tell(options, "machine", **of_machine, network=options.network, seconds=options.seconds)
    three, measured = network(options, "float32", **THREE_LAYERS), network(options, "float32")
    programs = {
        "logits": _logits,
        "gradient": _gradient,
        "contributions to all classes": partial(_contributions, every=True),
        "contributions to one class": _contributions,
        "logits with kept products": partial(_logits, keep=True),
        "layers": _layers,
    }
    rounded = {name for name in programs if not name.startswith("contributions")}  # By TF32.
    cases = [
        *(
            (three, name, precision)
            for name in programs
            for precision in TOLERANCES
            if precision != "tf32" or name in rounded
        ),
        *((measured, name, "float32") for name in list(programs)[:3]),
    ]
    pool = futures.ThreadPoolExecutor(os.cpu_count())  # A compiler takes a core.
    found = {}
    for model, name, precision in cases:
        for each in (precision, "float64"):
            if (model, name, each) not in found:
                found[model, name, each] = pool.submit(_value, programs[name], model, each)
    well = True
    for model, name, precision in cases:
        case = {"of": name, "network": "three layers" if model is three else options.network, "precision": precision}
        try:
            value, exact = (
                found[model, name, each].result(max(0, deadline - time.monotonic())) for each in (precision, "float64")
            )
        except TimeoutError:
            tell(options, "agreement", **case, left_out="for want of time")
            continue
        difference = max(map(_difference, jax.tree.leaves(value), jax.tree.leaves(exact)))
        ok = difference <= TOLERANCES[precision]
        tell(options, "agreement", **case, difference=difference, ok=ok)
        well &= ok
    pool.shutdown(wait=False, cancel_futures=True)
    return well


def _difference(value: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(value - expected).max() / np.abs(expected).max())


def _value(program: Callable, model: CoDANet, precision: str) -> Any:
    """What a program gives in a precision on the accelerator, or in "float64" on the CPU."""
    # At this temperature, and without a bias, logits are no smaller than their rounding.
    model = model.clone(temperature=1.0, logit_bias=0.0)
    with jax.default_device(jax.devices("cpu")[0]):
        arrays = jax.device_get({"variables": ours.initial(model), "layer": _random_layer()}) | random_batch(4)
    exact = precision == "float64"
    dtype, of_products = (jnp.float64, "highest") if exact else PRECISIONS[precision]
    model = model.clone(dtype=dtype, param_dtype=jnp.float64 if exact else jnp.float32)

    def typed(array: np.ndarray) -> np.ndarray:
        return array.astype(model.param_dtype) if array.dtype == np.float32 else array

    device = jax.devices("cpu" if exact else None)[0]
    with jax.enable_x64(exact), jax.default_device(device), jax.default_matmul_precision(of_products):
        result = jax.jit(partial(program, model))(jax.tree.map(typed, arrays))
        return jax.tree.map(lambda array: np.asarray(array).astype(np.float64), result)


def _logits(model: CoDANet, arrays: dict[str, Any], keep: bool = False) -> jax.Array:
    variables = model.with_gram(arrays["variables"]) if keep else arrays["variables"]
    return model.apply(variables, add_inverse(arrays["image"]))


def _gradient(model: CoDANet, arrays: dict[str, Any]) -> Any:
    def loss(variables: Any) -> jax.Array:
        return jnp.mean(binary_cross_entropy(_logits(model, arrays | {"variables": variables}), arrays["label"]))

    return jax.grad(loss)(arrays["variables"])


def _contributions(model: CoDANet, arrays: dict[str, Any], every: bool = False) -> jax.Array:
    targets = "all" if every else arrays["label"]
    return contributions(model, arrays["variables"], add_inverse(arrays["image"]), targets)


def _random_layer() -> dict[str, jax.Array]:
    shapes = {"inputs": (2, 8, 8, 6), "B": (3, 3, 6, 32), "A": (3, 3, 6, 5, 32), "b": (3, 3, 6, 5)}
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return {name: jax.random.normal(key, shape) / 4 for key, (name, shape) in zip(keys, shapes.items(), strict=True)}


def _layers(model: CoDANet, arrays: dict[str, Any]) -> list[Any]:
    layer = {name: array.astype(model.dtype) for name, array in arrays["layer"].items()}
    return [_layer(form, norm, layer) for form in FORMS for norm in NORMS]


def _layer(form: str, norm: str, layer: dict[str, jax.Array]) -> Any:
    def outputs(layer: dict[str, jax.Array]) -> tuple[jax.Array, DynamicLinear]:
        return dynamic_alignment(**layer, form=form, norm=norm, padding=1)

    result, linear_map = outputs(layer)
    gradient = jax.grad(lambda layer: jnp.sum(outputs(layer)[0].astype(linear_map.s.dtype) ** 2))(layer)
    transposed = [linear_map.transpose(jnp.stack([result] * targets, axis=1)) for targets in (1, 3)]
    return result, gradient, transposed
