import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from coda_jax import CoDANet, InputError
from coda_jax.metrics import pixel_removal
from coda_jax.metrics.pixel_removal import removal_curve
from tests.golden import DTYPES, SHARED, TOLERANCE, assert_close, golden_inputs, golden_network


class Total(nn.Module):
    """Class 0 has the sum of the input, times a parameter, as its logit, and class 1 its negative."""

    @nn.compact
    def __call__(self, inputs):
        total = self.param("scale", nn.initializers.ones, ()) * inputs.sum((1, 2, 3))
        return jnp.stack([total, -total], axis=1)


TOTAL = {"params": {"scale": jnp.array(1.0)}}
NETWORK = CoDANet((4, 3), (3, 2), (3, 1), (1, 1), (1, 0), temperature=3.0)
ROUNDING = 1e-5  # Sums of some hundred values in float32, in other orders for batches of other sizes.


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


@pytest.fixture(scope="module")
def network():
    """(variables, inputs, maps, targets) of a small random network and five images."""
    images = jax.random.uniform(jax.random.key(1), (5, 4, 6, 3))
    inputs = jnp.concatenate([images, 1 - images], axis=-1)
    maps = jax.random.normal(jax.random.key(2), (5, 4, 6))
    return jax.jit(NETWORK.init)(jax.random.key(0), inputs), inputs, maps, np.arange(5) % 3


@pytest.mark.parametrize(
    ("order", "logits"),
    # The maps' order of the pixels' sums 10, 20, 30, 40 is 30, 10, 40, 20.
    [("least", [1.0, 0.7, 0.6, 0.2, 0.0]), ("most", [1.0, 0.8, 0.4, 0.3, 0.0])],
)
def test_by_hand(order, logits):
    inputs = jnp.array([[[0.06, 0.04], [0.15, 0.05]], [[0.1, 0.2], [0.3, 0.1]]]).reshape(1, 2, 2, 2)
    maps = np.array([[[-1.0, 7.0], [-3.0, 2.0]]])
    curve = removal_curve(Total(), TOTAL, inputs, maps, np.array([0]), 1.0, 4, order)
    np.testing.assert_allclose(curve, [sigmoid(logits)], rtol=1e-6)  # Sums of eight values.
    other = removal_curve(Total(), TOTAL, inputs, maps, np.array([1]), 0.5, 1, order)
    np.testing.assert_allclose(other, [sigmoid([-logits[0], -logits[2]])], rtol=1e-6)


@pytest.mark.parametrize("order", ["least", "most"])
def test_equally_important_pixels_go_in_their_order(order):
    inputs = jnp.array([1.0, 2.0, 4.0, 8.0]).reshape(1, 2, 2, 1) / 10
    curve = removal_curve(Total(), TOTAL, inputs, np.zeros((1, 2, 2)), np.array([0]), 1.0, 4, order)
    np.testing.assert_allclose(curve, [sigmoid([1.5, 1.4, 1.2, 0.8, 0.0])], rtol=1e-6)


@pytest.mark.parametrize(
    ("fraction", "points", "pixels"),
    [(0.25, 12, 2), (0.25, 7, 3), (0.25, 25, 1), (1.0, 1, 100), (0.57, 57, 1), (0.57, 3, 19), (0.119, 2, 5)],
)
def test_pixels_of_each_point(fraction, points, pixels):
    inputs = jnp.full((1, 10, 10, 1), 0.01)
    curve = removal_curve(Total(), TOTAL, inputs, np.zeros((1, 10, 10)), np.array([0]), fraction, points)
    np.testing.assert_allclose(curve, [sigmoid(1 - 0.01 * pixels * np.arange(points + 1))], rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["least", "most"])
def test_curves_are_the_authors(golden, order, dtype):
    path = SHARED / "golden" / f"pixel_removal_{order}.npz"
    if not path.exists():
        pytest.skip(f"needs the outputs of the authors' code in {path}, which only developers have")
    with np.load(path) as arrays:
        theirs = dict(arrays)
    arrays = golden(str(theirs["golden"]).removesuffix(".npz"))
    with jax.enable_x64(dtype == jnp.float64):
        model, variables = golden_network(arrays, "state_dict/", dtype)
        inputs, targets = golden_inputs(arrays, dtype), theirs["targets"]
        maps = arrays["contributions"][np.arange(len(targets)), targets].sum(axis=1)
        first = np.argsort(maps.reshape(len(maps), -1) * (1 if order == "least" else -1), axis=1)
        np.testing.assert_array_equal(first[:, : theirs["order"].shape[1]], theirs["order"])  # The maps meant.
        curves = removal_curve(
            model, variables, inputs, maps, targets, float(theirs["fraction"]), int(theirs["sample_points"]), order
        )
        assert curves.dtype == dtype
        assert_close(curves, theirs["curves"], TOLERANCE[dtype])


@settings(max_examples=20, deadline=None)
@given(
    shape=st.sampled_from([(1, 4, 6), (5, 3, 5)]),  # Few shapes and settings, each of which is compiled.
    settings=st.sampled_from([(0.25, 1), (0.7, 4), (1.0, 5)]),
    order=st.sampled_from(["least", "most"]),
    ties=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_curve_is_that_of_pixels_removed_one_by_one(shape, settings, order, ties, seed):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(*shape, 2)).astype(np.float32)
    maps = rng.integers(0, 4, shape) if ties else rng.normal(size=shape)
    targets = rng.integers(0, 2, shape[0])
    fraction, points = settings
    curves = removal_curve(Total(), TOTAL, inputs, maps, targets, fraction, points, order)
    assert curves.shape == (shape[0], points + 1)
    step = int(fraction * shape[1] * shape[2] / points)
    for image, importance, target, curve in zip(inputs, maps, targets, curves, strict=True):
        pixels = image.reshape(-1, 2).astype(np.float64)
        removal = sorted(range(len(pixels)), key=lambda i: importance.ravel()[i] * (1 if order == "least" else -1))
        for point in range(points + 1):
            pixels[removal[: point * step]] = 0
            expected = sigmoid(pixels.sum() * (1 - 2 * target))
            np.testing.assert_allclose(curve[point], expected, rtol=0, atol=ROUNDING)


def test_the_curve_begins_at_the_plain_probability_and_can_end_without_an_image(network):
    variables, inputs, maps, targets = network
    curves = removal_curve(NETWORK, variables, inputs, maps, targets, 1.0, 24)
    logits = jax.jit(NETWORK.apply)(variables, inputs)
    np.testing.assert_allclose(curves[:, 0], sigmoid(logits)[np.arange(5), targets], rtol=ROUNDING)
    np.testing.assert_allclose(curves[:, -1], np.full(5, 0.1), rtol=ROUNDING)  # The logit bias's.
    assert np.ptp(curves[:, :-1]) > 100 * ROUNDING


@pytest.mark.parametrize("chunk_size", [1, 4, 15, 1000])
def test_chunks_change_nothing(network, chunk_size):
    whole = removal_curve(NETWORK, *network, 0.5, 2, chunk_size=15)
    chunked = removal_curve(NETWORK, *network, 0.5, 2, chunk_size=chunk_size)
    np.testing.assert_allclose(chunked, whole, rtol=ROUNDING)


def test_the_model_gets_batches_and_chunks_bound_them(network):
    variables, inputs, maps, targets = network
    seen = set()

    class Spy(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            seen.add(inputs.shape[0])
            return NETWORK.apply(variables, inputs)

    removal_curve(Spy(), {}, inputs, maps, targets, 0.5, 3, chunk_size=7)
    assert seen == {5, 7}  # All five only to learn the number of classes, without evaluation.


def test_compiled_once_for_all_variables(network):
    variables, inputs, maps, targets = network
    curves = removal_curve(NETWORK, variables, inputs, maps, targets, 0.5, 3)
    compiled = pixel_removal._curve._cache_size()
    for scale in (0.5, 2.0):
        others = jax.tree.map(lambda array: scale * array, variables)  # noqa: B023
        assert np.abs(removal_curve(NETWORK.clone(), others, inputs, maps, targets, 0.5, 3) - curves).max() > 1e-3
    assert pixel_removal._curve._cache_size() == compiled


def test_under_jit_vmap_and_eval_shape(network):
    variables, *arrays = network

    def curve(variables, inputs, maps, targets):
        return removal_curve(NETWORK, variables, inputs, maps, targets, 0.5, 3, "most", chunk_size=8)

    expected = curve(variables, *arrays)
    np.testing.assert_allclose(jax.jit(curve)(variables, *arrays), expected, rtol=ROUNDING)
    singles = jax.vmap(lambda *one: curve(variables, *(array[None] for array in one))[0])(*map(jnp.asarray, arrays))
    np.testing.assert_allclose(singles, expected, rtol=ROUNDING)
    assert jax.eval_shape(curve, variables, *arrays).shape == (5, 4)


def test_with_gram(network):
    variables, *arrays = network
    curves = removal_curve(NETWORK, NETWORK.with_gram(variables), *arrays, 0.5, 3)
    np.testing.assert_allclose(curves, removal_curve(NETWORK, variables, *arrays, 0.5, 3), rtol=ROUNDING)


def test_the_defaults_are_the_papers():
    defaults = {name: argument.default for name, argument in inspect.signature(removal_curve).parameters.items()}
    assert (defaults["fraction"], defaults["points"], defaults["order"]) == (0.25, 128, "least")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": np.zeros((2, 4, 6), np.float32)}, r"inputs must be floating-point \[N, H, W, C\], not float32"),
        ({"inputs": np.zeros((2, 4, 6, 3), np.uint8)}, r"not uint8 \[2, 4, 6, 3\]"),
        ({"maps": np.zeros((2, 1, 4, 6))}, r"maps must have shape \[2, 4, 6\], one an input, not \[2, 1, 4, 6\]"),
        ({"maps": np.zeros((2, 6, 4))}, r"not \[2, 6, 4\]"),
        ({"targets": np.zeros((2, 1), int)}, r"targets must have shape \[2\], not \[2, 1\]"),
        ({"targets": np.zeros(3, int)}, r"targets must be whole numbers of shape \[2\] .* not int64 \[3\]"),
        ({"targets": np.array([0, 2])}, "target 2 is not a class: classes go from 0 to 1"),
        ({"order": "random"}, "order is 'random', but must be one of least, most"),
        ({"fraction": 0.0}, "fraction must be above 0, not 0.0"),
        ({"fraction": 1.1}, "fraction must be .* not 1.1"),
        ({"fraction": float("nan")}, "fraction must be .* not nan"),
        ({"points": 0}, "points must be at least 1, not 0"),
        ({"points": 7}, "7 points are too many: 0.25 of 4x6 pixels are 6"),
        ({"chunk_size": 0}, "chunk_size must be at least 1, not 0"),
    ],
)
def test_bad_arguments(changes, message):
    arguments = {
        "inputs": np.zeros((2, 4, 6, 3), np.float32),
        "maps": np.zeros((2, 4, 6)),
        "targets": np.zeros(2, int),
        "points": 6,
    }
    with pytest.raises(InputError, match=message):
        removal_curve(Total(), TOTAL, **arguments | changes)
