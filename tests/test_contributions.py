from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coda_jax import CoDANet, InputError
from coda_jax.contributions import (
    contribution_map,
    contributions,
    explain,
    layer_contributions,
    layer_maps,
    linear_weights,
    terms,
)
from tests.golden import DTYPES, GOLDEN, TOLERANCE, assert_close, golden_inputs, golden_network

MODEL = CoDANet(
    channels=(4, 5, 3),
    ranks=(5, 4, 2),
    kernel_sizes=(3, 3, 2),
    strides=(2, 1, 1),
    paddings=(1, 1, 0),
    temperature=3.0,
    logit_bias=-1.0,
)


@pytest.fixture(scope="module")
def network():
    """(variables, inputs, logits) of a small random network and seven random images."""
    images = jax.random.uniform(jax.random.key(1), (7, 6, 6, 3))
    inputs = jnp.concatenate([images, 1 - images], axis=-1)
    variables = jax.jit(MODEL.init)(jax.random.key(0), inputs)
    return variables, inputs, jax.jit(MODEL.apply)(variables, inputs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", GOLDEN)
def test_contributions_and_weights_are_the_authors(golden, name, dtype):
    arrays = golden(name)
    with jax.enable_x64(dtype == jnp.float64):
        model, variables = golden_network(arrays, "state_dict/", dtype)
        inputs = golden_inputs(arrays, dtype)
        targets = np.tile(arrays["targets"], (len(inputs), 1))
        for function, key in ((contributions, "contributions"), (linear_weights, "linear_weights")):
            ours = function(model, variables, inputs, targets)
            assert ours.dtype == dtype
            assert_close(ours, arrays[key].transpose(0, 1, 3, 4, 2), TOLERANCE[dtype])


@pytest.mark.parametrize("name", ["sq_3layer", "l2_3layer"])
def test_maps_are_not_input_times_gradient(golden, name):
    arrays = golden(name)
    model, variables = golden_network(arrays, "state_dict/", jnp.float32)
    inputs = golden_inputs(arrays, jnp.float32)
    gradient = jax.jit(jax.grad(lambda inputs: jnp.sum(model.apply(variables, inputs)[:, 0])))(inputs)
    ours = contributions(model, variables, inputs, np.zeros(len(inputs), int))[:, 0]
    distance = jnp.linalg.norm(ours - gradient * inputs) / jnp.linalg.norm(ours)
    assert distance > 0.1  # A gradient differentiates the weights as well; rounding would give 1e-6.


@pytest.mark.precision
def test_contributions_sum_to_the_logits(network):
    variables, inputs, logits = network
    maps = contributions(MODEL, variables, inputs, "all")
    assert maps.shape == (7, 3, 6, 6, 6)
    np.testing.assert_allclose(maps.sum((2, 3, 4)) - 1.0, logits, rtol=1e-5)  # The promise; rounding is below it.


@pytest.mark.precision
@pytest.mark.parametrize(("layer", "shape"), [(0, (6, 6, 6)), (1, (3, 3, 4)), (2, (3, 3, 5)), (3, (2, 2, 3))])
def test_contributions_sum_to_the_logits_at_every_layer(network, layer, shape):
    variables, inputs, logits = network
    maps = layer_contributions(MODEL, variables, inputs, "all", layer)
    assert maps.shape == (7, 3, *shape)
    np.testing.assert_allclose(maps.sum((2, 3, 4)) - 1.0, logits, rtol=1e-5)


@pytest.mark.parametrize("targets", [None, "all"])
def test_the_maps_of_all_layers_at_once(network, targets):
    variables, inputs, _ = network
    together = layer_maps(MODEL, variables, inputs, targets, chunk_size=4)
    assert len(together) == 4
    for layer, maps in enumerate(together):
        alone = contribution_map(layer_contributions(MODEL, variables, inputs, targets, layer))
        np.testing.assert_allclose(maps, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.precision
def test_contributions_are_weights_times_inputs(network):
    variables, inputs, _ = network
    weights = linear_weights(MODEL, variables, inputs, "all")
    maps = contributions(MODEL, variables, inputs, "all")
    np.testing.assert_allclose(weights * inputs[:, None], maps, rtol=1e-6)
    _, linear_map = jax.jit(partial(MODEL.apply, method="decompose"))(variables, inputs)
    np.testing.assert_allclose(weights, linear_map.dense(), rtol=1e-4, atol=1e-6)  # Sums of some hundred products.


def test_targets_select_rows(network):
    variables, inputs, logits = network
    everything = np.asarray(contributions(MODEL, variables, inputs, "all"))
    examples = np.arange(7)
    pairs = np.stack([(examples + 1) % 3, examples % 3], axis=1)
    close = {"rtol": 1e-4, "atol": 1e-6}  # The transpose takes another form for other numbers of targets.
    np.testing.assert_allclose(
        contributions(MODEL, variables, inputs, pairs), everything[examples[:, None], pairs], **close
    )
    singles = contributions(MODEL, variables, inputs, jnp.array(pairs[:, 0]))
    np.testing.assert_allclose(singles, everything[examples, pairs[:, 0]][:, None], **close)
    predicted = contributions(MODEL, variables, inputs)
    np.testing.assert_allclose(predicted, everything[examples, np.argmax(logits, -1)][:, None], **close)


def test_an_explanation_has_the_logits_the_targets_and_their_contributions(network):
    variables, inputs, logits = network
    explanation = explain(MODEL, variables, inputs, top=2)
    # Programs with and without contributions may sum in another order.
    np.testing.assert_allclose(explanation.logits, logits, rtol=1e-5)
    most_probable = np.argsort(-logits, axis=-1)[:, :2]
    np.testing.assert_array_equal(explanation.targets, most_probable)
    expected = contributions(MODEL, variables, inputs, most_probable)
    np.testing.assert_allclose(explanation.contributions, expected, rtol=1e-4, atol=1e-6)
    given = explain(MODEL, variables, inputs, "all", layer=1)
    np.testing.assert_array_equal(given.targets, np.tile(np.arange(3), (7, 1)))
    np.testing.assert_allclose(given.contributions.sum((2, 3, 4)) - 1.0, logits, rtol=1e-5)


@pytest.mark.parametrize("targets", [None, "all", np.arange(7) % 3])
@pytest.mark.parametrize("chunk_size", [1, 3, 7, 100])
def test_chunks_change_nothing(network, targets, chunk_size):
    variables, inputs, _ = network
    whole = contributions(MODEL, variables, inputs, targets)
    chunked = contributions(MODEL, variables, inputs, targets, chunk_size=chunk_size)
    np.testing.assert_allclose(chunked, whole, rtol=1e-4, atol=1e-6)


def test_chunks_bound_the_memory(network):
    variables, _, _ = network

    def temporaries(examples, chunk_size):
        inputs = jax.ShapeDtypeStruct((examples, 6, 6, 6), jnp.float32)
        explain = jax.jit(lambda inputs: contributions(MODEL, variables, inputs, chunk_size=chunk_size))
        return explain.lower(inputs).compile().memory_analysis().temp_size_in_bytes

    values = 6 * 6 * 6 * 4  # Bytes of one input, of which a few copies may be held for all examples.
    assert temporaries(512, None) > 2 * temporaries(512, 8)
    assert temporaries(512, 8) - temporaries(64, 8) < 3 * (512 - 64) * values


def test_under_jit_vmap_and_eval_shape(network):
    variables, inputs, _ = network
    targets = np.arange(7) % 3
    expected = contributions(MODEL, variables, inputs, targets)

    def explain(inputs, targets):
        return contributions(MODEL, variables, inputs, targets)

    np.testing.assert_allclose(jax.jit(explain)(inputs, targets), expected, rtol=1e-4, atol=1e-6)
    one_by_one = jax.vmap(lambda one, target: explain(one[None], target[None])[0])(inputs, targets)
    np.testing.assert_allclose(one_by_one, expected, rtol=1e-4, atol=1e-6)
    assert jax.eval_shape(explain, inputs, targets).shape == (7, 1, 6, 6, 6)


def test_contribution_map_by_hand():
    np.testing.assert_array_equal(contribution_map(jnp.arange(6.0).reshape(1, 1, 1, 1, 6)), [[[[15]]]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": np.zeros((7, 6, 6, 3), np.float32)}, "inputs must have shape .* encode images with"),
        ({"inputs": np.zeros((7, 6, 6, 6), np.int32)}, "inputs must be floating-point"),
        ({"inputs": np.full((7, 6, 6, 6), 2, np.float32)}, r"inputs must lie in \[0, 1\]"),
        ({"targets": "every"}, 'targets must be None, "all", or class numbers, not "every"'),
        ({"targets": np.full(7, 3)}, "target 3 is not a class: classes go from 0 to 2"),
        ({"targets": jnp.full((7, 2), -1)}, "target -1 is not a class"),
        ({"targets": np.zeros(5, int)}, r"whole numbers of shape \[7\] or \[7, T\], not int64 \[5\]"),
        ({"targets": np.zeros(7)}, "not float64"),
        ({"chunk_size": 0}, "chunk_size must be at least 1, not 0"),
        ({"layer": 4}, "layer must be at most 3, not 4"),
        ({"top": 4}, "top must be at most the number of classes, 3, not 4"),
        ({"top": 0}, "top must be at least 1, not 0"),
    ],
)
def test_bad_arguments(network, arguments, message):
    variables, inputs, _ = network
    arguments = {"inputs": inputs} | arguments
    with pytest.raises(InputError, match=message):
        explain(MODEL, variables, **arguments)


def test_terms():
    assert terms(np.array([[1.5, -0.25], [0.5, 0.0]]), -2.0) == "2.00 − 0.25 − 2.00 = −0.25"
    assert terms(np.array([0.5]), 1.0) == "0.50 − 0.00 + 1.00 = 1.50"
