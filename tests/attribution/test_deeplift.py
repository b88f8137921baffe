import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from coda_jax import InputError
from coda_jax.attribution.deeplift import deeplift
from coda_jax.attribution.gradient import gradient
from tests.attribution.networks import (
    CAPTUM_TOLERANCE,
    INPUTS,
    TARGETS,
    by_captum,
    import_captum,
    replaceable_cnn,
    torch_cnn,
)
from tests.golden import assert_close

PIXEL = np.array([3, 1], np.float32).reshape(1, 1, 1, 2)
TARGET = np.array([[0, 1]])


def two_logits(logit):
    """A make_logits_fn of twice and minus a logit of one pixel's two channels."""

    def make_logits_fn(relu, _):
        def network(inputs):
            value = logit(relu, inputs[:, 0, 0, 0], inputs[:, 0, 0, 1])
            return jnp.stack([2 * value, -value], axis=-1)

        return network

    return make_logits_fn


def test_by_hand():
    maps = deeplift(two_logits(lambda relu, a, b: relu(a + b - 1)), PIXEL, TARGET)
    # The sum is 3 at the input and -1 at the baseline: the slope is 3 / 4.
    np.testing.assert_allclose(maps[0, :, 0, 0], [[4.5, 1.5], [-2.25, -0.75]], rtol=1e-6)  # Rounding.


def test_by_hand_through_two_layers():
    make_logits_fn = two_logits(lambda relu, a, b: relu(relu(a - 2) - 3 * relu(b + 1) + 4))
    maps = deeplift(make_logits_fn, PIXEL, TARGET[:, :1])
    # First layer: from 0 to 1, slope 1 / 3, and from 1 to 2, slope 1. Second: its input goes from 1 to -1, slope 1 / 2.
    np.testing.assert_allclose(maps[0, 0, 0, 0], [1, -3], rtol=1e-6)  # Rounding.


def test_max_pooling_by_hand():
    # In windows of two: 0, 1 -> 5, 2 rises to its first pixel; 4, 6 -> 3, 1 falls from its second, which was the
    # largest; 3, 7 -> 7, 2 has the same maximum in another place; 2, 1 -> 2, 0 has it where nothing has changed.
    baseline = np.array([0, 1, 4, 6, 3, 7, 2, 1], np.float32).reshape(8, 1, 1)
    inputs = np.array([5, 2, 3, 1, 7, 2, 2, 0], np.float32).reshape(1, 8, 1, 1)
    maps = deeplift(
        lambda _, max_pool: lambda x: max_pool(x, (2, 1), (2, 1)).sum((1, 2)), inputs, [0], baseline=baseline
    )
    np.testing.assert_array_equal(maps.ravel(), [4, 0, 0, -3, 0, 0, 0, 0])


@pytest.mark.parametrize("baseline", [np.array([1, -2]), np.array([[[1, -2]]], np.float32)])
def test_baseline_by_hand(baseline):
    maps = deeplift(two_logits(lambda relu, a, b: relu(a + b)), PIXEL, TARGET, baseline=baseline)
    # The sum is 4 at the input and -1 at the baseline: the slope is 4 / 5, the differences are 2 and 3.
    np.testing.assert_allclose(maps[0, :, 0, 0], [[3.2, 4.8], [-1.6, -2.4]], rtol=1e-6)  # Rounding.


def test_every_relu_makes_its_difference():
    inputs, baseline = np.split(np.random.default_rng(0).normal(size=(3, 3, 2, 2)), [2])
    with jax.enable_x64(True):
        maps = deeplift(lambda relu, _: lambda x: jnp.sum(relu(x), (1, 2)), inputs, [[0, 1]] * 2, baseline=baseline[0])
        expected = (np.maximum(inputs, 0) - np.maximum(baseline, 0))[:, None] * np.eye(2)[:, None, None]
        assert_close(maps, expected, 1e-15)  # Rounding.


@pytest.mark.parametrize("baseline", [0.0, 0.3, INPUTS[0]])
def test_sums_to_the_difference_of_the_logits(baseline):
    with jax.enable_x64(True):
        make_logits_fn, inputs = replaceable_cnn(jnp.float64)
        maps = deeplift(make_logits_fn, inputs, TARGETS, baseline=baseline)
        logits_fn = make_logits_fn(nn.relu)
        logits = logits_fn(inputs) - logits_fn(jnp.broadcast_to(jnp.asarray(baseline), inputs.shape))
        expected = np.take_along_axis(np.asarray(logits), TARGETS, axis=1)
        assert_close(maps.sum((2, 3, 4)), expected, 1e-12)  # Rounding.


@pytest.mark.parametrize(("at", "slope"), [(-0.5, 0), (0.0, 1), (0.5, 1)])
def test_rounding_does_not_reach_the_multipliers(at, slope):
    # What the ReLU is given changes by 2^-20, but the inputs by 3.
    pixel = np.array([3 + 2**-20, 3], np.float32).reshape(1, 1, 1, 2)
    maps = deeplift(two_logits(lambda relu, a, b: relu(a - b + at)), pixel, TARGET[:, :1])
    np.testing.assert_allclose(maps[0, 0, 0, 0], [6 * slope, -6 * slope], rtol=1e-6)  # The 2^-20.


def test_small_changes_have_the_slope_by_hand():
    # From -2^-8 to 2^-8, where the derivative would give twice as much.
    maps = deeplift(two_logits(lambda relu, a, b: relu(a - 3 + 2**-8)), PIXEL, [[0]], baseline=PIXEL[0] - 2**-7)
    np.testing.assert_allclose(maps[0, 0, 0, 0], [2**-7, 0], rtol=1e-6)  # Rounding.


def test_activations_that_do_not_change_have_the_derivative():
    pixel = np.full((1, 1, 1, 2), 2, np.float32)
    maps = deeplift(two_logits(lambda relu, a, b: relu(a - b + 1) + relu(b - a - 1)), pixel, TARGET)
    np.testing.assert_allclose(maps[0, :, 0, 0], [[4, -4], [-2, 2]], rtol=1e-6)  # Slopes of 1 and 0.
    maps = deeplift(two_logits(lambda relu, a, b: relu(a - b + 1) + relu(b - a + 1)), pixel, TARGET)
    np.testing.assert_allclose(maps[0, :, 0, 0], np.zeros((2, 2)), atol=1e-6)  # Slopes of 1, which cancel.


@pytest.mark.parametrize("baseline", [0.0, 0.3])
def test_is_captums(baseline):
    captum = import_captum()
    method = captum.DeepLift(torch_cnn())
    expected = by_captum(lambda inputs, targets: method.attribute(inputs, baseline, targets))
    with jax.enable_x64(True):
        make_logits_fn, inputs = replaceable_cnn(jnp.float64)
        maps = deeplift(make_logits_fn, inputs, TARGETS, baseline=baseline)
        assert_close(maps, expected, CAPTUM_TOLERANCE)
        plain = (inputs - baseline)[:, None] * gradient(make_logits_fn(nn.relu), inputs, TARGETS)
    assert np.abs(maps - plain).max() > 0.1 * np.abs(plain).max()  # The comparison is of more than gradients.


def test_max_pooling_is_captums():
    captum = import_captum()
    import torch

    rng = np.random.default_rng(0)
    inputs, baseline, weights = rng.normal(size=(2, 6, 5, 2)), rng.normal(size=(6, 5, 2)), rng.normal(size=(3, 2))
    pool = torch.nn.MaxPool2d(2)
    network = torch.nn.Sequential(pool, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(2, 3))
    network.double()[3].weight.data = torch.from_numpy(weights)
    in_torch = [torch.from_numpy(array).permute(0, 3, 1, 2) for array in (inputs, baseline[None])]
    expected = captum.DeepLift(network).attribute(*in_torch, target=1).permute(0, 2, 3, 1).detach().numpy()

    def make_logits_fn(_, max_pool):
        return lambda inputs: max_pool(inputs, (2, 2), (2, 2)).mean((1, 2)) @ weights.T

    with jax.enable_x64(True):
        assert_close(deeplift(make_logits_fn, inputs, [1, 1], baseline=baseline)[:, 0], expected, CAPTUM_TOLERANCE)


def test_targets_and_chunks_change_nothing():
    make_logits_fn, inputs = replaceable_cnn()
    maps = deeplift(make_logits_fn, inputs, TARGETS)
    close = {"rtol": 1e-4, "atol": 1e-6}  # Rounding of float32 sums, and of differences of them.
    for column, targets in enumerate(TARGETS.T):
        np.testing.assert_allclose(deeplift(make_logits_fn, inputs, targets), maps[:, column, None], **close)
    for chunk_size in (1, 2, 5):
        np.testing.assert_allclose(deeplift(make_logits_fn, inputs, TARGETS, chunk_size=chunk_size), maps, **close)


@pytest.mark.parametrize("shape", [(3,), (2, 1, 2), (1, 1, 1, 2)])
def test_bad_baselines(shape):
    with pytest.raises(InputError, match=r"baseline must broadcast to the inputs' \[1, 1, 2\], but has shape"):
        deeplift(two_logits(lambda relu, a, b: a + b), PIXEL, TARGET, baseline=np.zeros(shape))
