import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coda_jax import InputError
from coda_jax.attribution.input_x_gradient import input_x_gradient
from coda_jax.attribution.integrated_gradients import integrated_gradients
from tests.attribution.networks import (
    CAPTUM_TOLERANCE,
    INPUTS,
    TARGETS,
    by_captum,
    import_captum,
    small_cnn,
    torch_cnn,
)
from tests.golden import assert_close


def cube_and_product(inputs):
    """Logits a³ and ab of the two channels of one pixel."""
    a, b = inputs[:, 0, 0, 0], inputs[:, 0, 0, 1]
    return jnp.stack([a**3, a * b], axis=-1)


PIXEL = np.array([2, 5], np.float32).reshape(1, 1, 1, 2)


def test_by_hand():
    maps = integrated_gradients(cube_and_product, PIXEL, np.array([[0, 1]]), steps=1)
    # Half-way, at (1, 2.5), the gradients are (3, 0) and (2.5, 1).
    np.testing.assert_array_equal(maps[0, :, 0, 0], [[6, 0], [5, 5]])
    maps = integrated_gradients(cube_and_product, PIXEL, np.array([[0, 1]]), steps=2)
    # At (0.5, 1.25) and (1.5, 3.75) they are (0.75, 0), (6.75, 0) and (1.25, 0.5), (3.75, 1.5).
    np.testing.assert_array_equal(maps[0, :, 0, 0], [[7.5, 0], [5, 5]])


@pytest.mark.parametrize("baseline", [1.0, np.ones((1, 1, 1)), np.array([1, 1], np.float32)])
def test_baseline_by_hand(baseline):
    maps = integrated_gradients(cube_and_product, PIXEL, np.array([[0, 1]]), steps=1, baseline=baseline)
    # Half-way from (1, 1), at (1.5, 3), the gradients are (6.75, 0) and (3, 1.5); the differences are 1 and 4.
    np.testing.assert_array_equal(maps[0, :, 0, 0], [[6.75, 0], [3, 6]])


def test_linear_logits_need_one_step():
    logits_fn, inputs = small_cnn()
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(inputs[0].size, 3)), jnp.float32)

    def linear(inputs):
        return inputs.reshape(len(inputs), -1) @ weights

    maps = integrated_gradients(linear, inputs, TARGETS, steps=1)
    np.testing.assert_allclose(maps, input_x_gradient(linear, inputs, TARGETS), rtol=1e-6)  # Rounding.


@pytest.mark.parametrize("baseline", [0.0, INPUTS[0]])
@pytest.mark.parametrize("steps", [10, 100])
def test_sums_to_the_difference_of_the_logits(steps, baseline):
    weights = np.random.default_rng(0).normal(size=(INPUTS[0].size, 3)) / 10

    def products(inputs):
        return inputs.reshape(len(inputs), -1) @ weights

    with jax.enable_x64(True):
        maps = integrated_gradients(
            lambda inputs: jnp.tanh(products(inputs)), INPUTS, TARGETS, steps=steps, baseline=baseline
        )
        at_input, at_baseline = products(INPUTS), products(np.broadcast_to(baseline, INPUTS.shape))
        expected = np.take_along_axis(np.tanh(at_input) - np.tanh(at_baseline), TARGETS, axis=1)
        # The midpoint rule's error: the third derivative, at most 2, times the product's change cubed, over 24 steps².
        bound = 2 * np.abs(np.take_along_axis(at_input - at_baseline, TARGETS, axis=1)) ** 3 / (24 * steps**2)
        error = np.abs(maps.sum((2, 3, 4)) - expected)
    assert np.all(error <= bound + 1e-14)  # Rounding.
    assert np.any(error > 1e-3 * bound)


@pytest.mark.parametrize("baseline", [0.0, 0.3])
def test_is_captums(baseline):
    captum = import_captum()
    method = captum.IntegratedGradients(torch_cnn())
    expected = by_captum(
        lambda inputs, targets: method.attribute(inputs, baseline, targets, n_steps=8, method="riemann_middle")
    )
    with jax.enable_x64(True):
        maps = integrated_gradients(*small_cnn(jnp.float64), TARGETS, steps=8, baseline=baseline)
        assert_close(maps, expected, CAPTUM_TOLERANCE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"baseline": np.zeros(3)}, r"baseline must broadcast to the inputs' \[1, 1, 2\], but has shape \[3\]"),
        ({"baseline": np.zeros((2, 1, 2))}, r"has shape \[2, 1, 2\]"),
        ({"baseline": np.zeros((1, 1, 1, 2))}, r"has shape \[1, 1, 1, 2\]"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        integrated_gradients(cube_and_product, PIXEL, np.array([0]), **settings)
