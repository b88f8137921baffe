import importlib
import pkgutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from coda_jax import InputError, attribution
from coda_jax.attribution import gradient, occlusion, rise
from coda_jax.attribution.protocol import attribute, compute_logits
from tests.attribution.networks import INPUTS, TARGETS, small_cnn

CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # Rounding of float32 sums of some hundred products, in another order.


def test_the_package_has_the_methods_of_all_its_modules():
    names = {module.name for module in pkgutil.iter_modules(attribution.__path__)} - {"layers", "protocol"}
    assert len(names) == 10
    for name in names:
        assert getattr(attribution, name) is getattr(importlib.import_module(f"coda_jax.attribution.{name}"), name)


def scaled_rows(logits_fn, inputs, targets, scale, *, power):
    """A rule whose result shows all that it was given: scale · (1 + target)^power · input."""
    return scale * (1 + targets[:, :, None, None, None]) ** power * inputs[:, None]


def linear(weights, inputs):
    return inputs.reshape(len(inputs), -1) @ weights


WEIGHTS = np.random.default_rng(0).normal(size=(INPUTS[0].size, 3)).astype(np.float32)


@pytest.mark.parametrize("chunk_size", [1, 2, 5, 64, None])
def test_a_rule_gets_examples_targets_arrays_and_settings(chunk_size):
    inputs = np.arange(1, 6, dtype=np.float32).reshape(5, 1, 1, 1)
    targets = np.array([[0, 2], [1, 1], [2, 0], [0, 1], [2, 1]])
    scale = jnp.array(10.0)
    maps = attribute(
        scaled_rows,
        lambda x: jnp.tile(x[:, 0, 0], 3),
        inputs,
        targets,
        scale,
        chunk_size=chunk_size,
        power=2,
    )
    expected = [[10, 90], [80, 80], [270, 30], [40, 160], [450, 200]]
    np.testing.assert_array_equal(maps[..., 0, 0, 0], expected)


def test_shapes_follow_the_targets():
    logits_fn, inputs = small_cnn()
    pairs = gradient(logits_fn, inputs, TARGETS)
    assert pairs.shape == (5, 2, 8, 6, 2)
    for column, targets in enumerate(TARGETS.T):
        maps = gradient(logits_fn, inputs, targets)
        assert maps.shape == (5, 1, 8, 6, 2)
        np.testing.assert_allclose(maps, pairs[:, [column]], **CLOSE)
    assert gradient(logits_fn, inputs, TARGETS[:, :1]).shape == (5, 1, 8, 6, 2)


@pytest.mark.parametrize("chunk_size", [2, None])
def test_predicted_and_all_classes(chunk_size):
    logits_fn, inputs = Partial(linear, WEIGHTS), INPUTS.astype(np.float32)
    of_all = np.asarray(gradient(logits_fn, inputs, "all", chunk_size=chunk_size))
    np.testing.assert_allclose(of_all, gradient(logits_fn, inputs, np.tile(np.arange(3), (5, 1))), **CLOSE)
    predicted = np.asarray(logits_fn(inputs)).argmax(1)
    assert len(set(predicted)) > 1
    expected = of_all[np.arange(5), predicted][:, None]
    np.testing.assert_allclose(gradient(logits_fn, inputs, chunk_size=chunk_size), expected, **CLOSE)


@pytest.mark.parametrize(
    "method", [partial(occlusion, window=4), partial(rise, key=jax.random.key(0), masks=4, cells=2)]
)
def test_classes_are_predicted_of_as_many_inputs_as_copies_at_once(method):
    sizes = []

    def logits_fn(inputs):
        sizes.append(len(inputs))
        return linear(WEIGHTS, inputs)

    inputs = INPUTS.astype(np.float32)
    maps = method(logits_fn, inputs, copies_at_once=2)
    assert sizes[:2] == [5, 2]  # First without computing anything, for the number of classes.
    predicted = linear(WEIGHTS, inputs).argmax(1)
    np.testing.assert_allclose(maps, method(logits_fn, inputs, predicted, copies_at_once=2), **CLOSE)


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 5, 100, None])
def test_chunks_change_nothing(chunk_size):
    logits_fn, inputs = small_cnn()
    whole = gradient(logits_fn, inputs, TARGETS)
    np.testing.assert_allclose(gradient(logits_fn, inputs, TARGETS, chunk_size=chunk_size), whole, **CLOSE)


def test_chunks_bound_what_the_network_is_given():
    sizes = []

    def logits_fn(inputs):
        sizes.append(len(inputs))
        return linear(WEIGHTS, inputs)

    gradient(logits_fn, INPUTS.astype(np.float32), TARGETS, chunk_size=2)
    assert sizes == [5, 2]  # First without computing anything, for the number of classes.


def test_a_partial_is_compiled_once_for_all_its_variables():
    traces = []

    def logits_fn(weights, inputs):
        traces.append(None)
        return linear(weights, inputs)

    inputs = INPUTS.astype(np.float32)
    for attempt, weights in enumerate((WEIGHTS, 2 * WEIGHTS)):
        maps = gradient(Partial(logits_fn, weights), inputs, TARGETS)
        expected = weights.T[TARGETS].reshape(5, 2, 8, 6, 2)
        np.testing.assert_allclose(maps, expected, rtol=1e-6)  # One product with 1 each.
        if attempt == 0:
            first = len(traces)
    assert len(traces) == first


def test_every_other_function_is_compiled_with_what_it_closes_over():
    inputs = INPUTS.astype(np.float32)
    for weights in (WEIGHTS, 3 * WEIGHTS):
        maps = gradient(lambda inputs, weights=weights: linear(weights, inputs), inputs, TARGETS[:, 0])
        np.testing.assert_allclose(maps, weights.T[TARGETS[:, 0]].reshape(5, 1, 8, 6, 2), rtol=1e-6)


def test_under_jit():
    logits_fn, inputs = small_cnn()
    maps = jax.jit(lambda inputs, targets: gradient(logits_fn, inputs, targets))(inputs, TARGETS)
    np.testing.assert_allclose(maps, gradient(logits_fn, inputs, TARGETS), **CLOSE)


def test_compute_logits():
    logits_fn, inputs = small_cnn()
    np.testing.assert_allclose(compute_logits(logits_fn, inputs), logits_fn(inputs), **CLOSE)


def test_products_are_computed_in_full_precision():
    inputs = jax.ShapeDtypeStruct((5, 8, 6, 2), jnp.float32)
    for function in (
        lambda inputs: gradient(Partial(linear, WEIGHTS), inputs, TARGETS),
        lambda inputs: compute_logits(Partial(linear, WEIGHTS), inputs),
    ):
        products = str(jax.make_jaxpr(function)(inputs)).split("dot_general")[1:]
        assert products
        assert all("HIGHEST" in product[:200] for product in products)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": INPUTS[0]}, r"inputs must be floating-point \[N, H, W, C\], not float64 \[8, 6, 2\]"),
        ({"inputs": INPUTS.astype(int)}, r"inputs must be floating-point \[N, H, W, C\], not int64 \[5, 8, 6, 2\]"),
        ({"targets": TARGETS[:4]}, r"whole numbers of shape \[5\] or \[5, T\], not int64 \[4, 2\]"),
        ({"targets": TARGETS[..., None]}, r"not int64 \[5, 2, 1\]"),
        ({"targets": TARGETS / 2}, r"not float64 \[5, 2\]"),
        ({"targets": "every"}, 'targets must be None, "all", or class numbers, not "every"'),
        ({"targets": TARGETS + 1}, "target 3 is not a class: classes go from 0 to 2"),
        ({"targets": jnp.full(5, -1)}, "target -1 is not a class"),
        ({"chunk_size": 0}, "chunk_size must be at least 1, not 0"),
    ],
)
def test_bad_arguments(arguments, message):
    logits_fn, inputs = small_cnn()
    with pytest.raises(InputError, match=message):
        gradient(logits_fn, **{"inputs": inputs, "targets": TARGETS, **arguments})


@pytest.mark.parametrize(
    ("logits_fn", "found"),
    [(jnp.sum, r"\[\]"), (lambda inputs: inputs[:, 0, 0, 0], r"\[5\]"), (lambda inputs: inputs, "5, 8")],
)
def test_logits_of_another_shape(logits_fn, found):
    with pytest.raises(InputError, match=rf"logits_fn must return logits of shape \[5, K\], not .*{found}"):
        gradient(logits_fn, INPUTS, TARGETS)
