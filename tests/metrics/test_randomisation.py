import jax
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from coda_jax import CoDANet, InputError
from coda_jax.metrics.randomisation import map_similarity, randomise_layers

MODEL = CoDANet((4, 5, 3), (3, 3, 2), (3, 3, 1), (1, 1, 1), (1, 1, 0))
ROUNDING = 1e-5  # Correlations of ranks in float32.


@pytest.fixture(scope="module")
def network():
    """(variables, inputs)."""
    inputs = np.random.default_rng(1).uniform(size=(2, 6, 6, 6)).astype(np.float32)
    return jax.tree.map(np.asarray, jax.jit(MODEL.init)(jax.random.key(0), inputs)), inputs


def test_layers_are_replaced_one_after_the_other(network):
    variables, inputs = network
    key = jax.random.key(7)
    order = ["layers_2", "layers_1", "layers_0"]
    fresh = jax.jit(MODEL.init)(key, inputs)["params"]
    stages = list(randomise_layers(MODEL, variables, inputs, key, order))
    assert [name for name, _ in stages] == order
    for number, (_, randomised) in enumerate(stages, 1):
        for place, name in enumerate(order):
            expected, other = (fresh, variables["params"]) if place < number else (variables["params"], fresh)
            jax.tree.map(np.testing.assert_array_equal, randomised["params"][name], expected[name])
            assert np.any(np.asarray(randomised["params"][name]["A"]) != np.asarray(other[name]["A"]))
        assert jax.eval_shape(MODEL.apply, randomised, inputs).shape == (2, 3)


def test_the_given_variables_and_other_collections_stay():
    class Normalised(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            return nn.Dense(3)(nn.BatchNorm(use_running_average=True)(inputs))

    inputs = np.ones((2, 4), np.float32)
    variables = jax.jit(Normalised().init)(jax.random.key(0), inputs)
    variables["batch_stats"]["BatchNorm_0"]["mean"] = np.full(4, 5, np.float32)
    before = jax.tree.map(np.array, variables)
    ((name, randomised),) = randomise_layers(Normalised(), variables, inputs, jax.random.key(1), ["Dense_0"])
    assert name == "Dense_0"
    np.testing.assert_array_equal(randomised["batch_stats"]["BatchNorm_0"]["mean"], np.full(4, 5.0))
    assert np.any(np.asarray(randomised["params"]["Dense_0"]["kernel"]) != before["params"]["Dense_0"]["kernel"])
    jax.tree.map(np.testing.assert_array_equal, variables, before)


def test_similarity_by_hand():
    # Ranks of the absolute values: 1, 2, 3, 4 against 1, 3, 2, 4: 1 - 6·2 / (4·15) = 0.8.
    maps, others = np.array([[[1.0, -2.0], [3.0, -9.0]]]), np.array([[[0.1, 5.0], [-4.0, 6.0]]])
    np.testing.assert_allclose(map_similarity(maps, others), [0.8], rtol=ROUNDING)
    # Average ranks 1.5, 1.5, 3.5, 3.5 against 1, 2, 3, 4: 4 / √(4·5).
    tied = np.array([[[1.0, -1.0], [2.0, 2.0]]])
    np.testing.assert_allclose(map_similarity(tied, maps), [2 / 5**0.5], rtol=ROUNDING)


def test_constant_maps_are_like_no_other():
    maps = np.arange(6.0).reshape(1, 2, 3)
    signs = np.array([[[1.0, -1.0, 1.0], [1.0, 1.0, -1.0]]])
    for a, b in ((maps, signs), (signs, maps), (signs, signs)):
        np.testing.assert_array_equal(map_similarity(a, b), [0])


def test_nan_is_not_hidden():
    maps = np.arange(6.0).reshape(1, 2, 3)
    assert np.isnan(map_similarity(maps, np.where(maps == 3, np.nan, maps)))


@settings(max_examples=25, deadline=None)
@given(size=st.sampled_from([(4, 5), (1, 2), (30, 31)]), levels=st.integers(2, 1000), seed=st.integers(0, 1000))
def test_similarity_is_scipys(size, levels, seed):
    rng = np.random.default_rng(seed)
    maps, others = rng.integers(-levels, levels, (2, 3, *size)).astype(np.float32)
    found = np.asarray(map_similarity(maps, others))
    # A monotone function. NumPy's powers of a and -a can differ in their last bits, but these products do not.
    of_function = np.asarray(map_similarity(maps, -3 * (maps * maps * maps)))
    for a, b, ours, its in zip(maps, others, found, of_function, strict=True):
        if np.ptp(np.abs(a)) and np.ptp(np.abs(b)):
            theirs = stats.spearmanr(np.abs(a).ravel(), np.abs(b).ravel()).statistic
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=ROUNDING)
            np.testing.assert_allclose(its, 1, rtol=ROUNDING)
        else:
            assert ours == 0
    np.testing.assert_allclose(map_similarity(others, maps), found, rtol=0, atol=ROUNDING)


def test_unrelated_maps_of_an_images_size():
    maps = np.random.default_rng(0).normal(size=(2, 4, 240, 240)).astype(np.float32)
    similarity = map_similarity(*maps)
    assert np.all(np.abs(np.asarray(similarity)) < 6 / 240)  # Six standard deviations, 1 / √(pixels - 1) each.
    np.testing.assert_allclose(map_similarity(maps[0], maps[0]), np.ones(4), rtol=ROUNDING)


def test_under_jit():
    maps, others = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    np.testing.assert_allclose(jax.jit(map_similarity)(maps, others), map_similarity(maps, others), rtol=ROUNDING)


@pytest.mark.parametrize(
    ("collections", "layers", "message"),
    [
        ({}, ["layers_2", "layer_1"], "there is no layer 'layer_1' in the parameters: choose layers_[012] or "),
        ({}, ["conv"], "there is no layer 'conv' in the parameters: choose layers_0 or layers_1 or layers_2"),
        ({"gram": {}}, ["layers_2"], 'must not have the collection "gram"'),
    ],
)
def test_bad_layers(network, collections, layers, message):
    variables, inputs = network
    with pytest.raises(InputError, match=message):
        randomise_layers(MODEL, variables | collections, inputs, jax.random.key(1), layers)


def test_params_without_their_collection(network):
    variables, inputs = network
    with pytest.raises(InputError, match='must have the collection "params", but have only layers_0, layers_1'):
        randomise_layers(MODEL, variables["params"], inputs, jax.random.key(1), ["layers_2"])


@pytest.mark.parametrize("shapes", [((2, 3, 4), (2, 4, 3)), ((3, 4), (3, 4)), ((2, 1, 3, 4), (2, 1, 3, 4))])
def test_bad_maps(shapes):
    with pytest.raises(InputError, match=r"both maps must have the same shape \[N, H, W\], not "):
        map_similarity(*map(np.zeros, shapes))
