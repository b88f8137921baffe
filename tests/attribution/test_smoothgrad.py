import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coda_jax import InputError
from coda_jax.attribution.gradient import gradient
from coda_jax.attribution.smoothgrad import smoothgrad
from tests.attribution.networks import TARGETS, small_cnn


def cubes(inputs):
    """One logit: the sum of all values' cubes."""
    return jnp.sum(inputs**3, axis=(1, 2, 3))[:, None]


def products(inputs):
    """One logit: the sum of products of neighbouring columns' values."""
    return jnp.sum(inputs[:, :, :-1] * inputs[:, :, 1:], axis=(1, 2, 3))[:, None]


@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_is_the_expectation_for_cubes(noise):
    values = np.array([[-1, 0], [0.5, 2]], np.float32)
    samples = 40_000
    maps = smoothgrad(
        cubes, values.reshape(1, 2, 2, 1), np.array([0]), key=jax.random.key(0), samples=samples, noise=noise
    )
    # E[3 (x + e)²] = 3 x² + 3 s². The variance of (x + e)² is 4 x² s² + 2 s⁴.
    standard_error = 3 * np.sqrt((4 * values**2 * noise**2 + 2 * noise**4) / samples)
    difference = np.asarray(maps[0, 0, ..., 0]) - 3 * (values**2 + noise**2)
    assert np.all(np.abs(difference) < 4 * standard_error)  # Four are exceeded once in 16,000 draws.
    assert np.all(np.abs(difference) > 0)


def test_noise_is_the_same_for_all_examples_and_not_for_all_values():
    inputs = np.tile(np.random.default_rng(0).random((1, 3, 3, 2), np.float32), (2, 1, 1, 1))
    maps = smoothgrad(products, inputs, np.zeros(2, int), key=jax.random.key(0), samples=1)
    np.testing.assert_allclose(maps[0], maps[1], rtol=1e-6)  # Rounding.
    noise = np.asarray(maps[0, 0, :, 0] - inputs[0, :, 1])  # In the first column the gradient is the second's value.
    assert len(np.unique(noise.round(4))) == noise.size


def test_keys_give_other_noise():
    arguments = products, np.ones((1, 3, 3, 2), np.float32), np.array([0])
    first, again, other = (smoothgrad(*arguments, key=jax.random.key(seed), samples=2) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01  # The noise is 0.15.


def test_no_noise_is_the_gradient():
    logits_fn, inputs = small_cnn()
    maps = smoothgrad(logits_fn, inputs, TARGETS, key=jax.random.key(0), samples=3, noise=0.0)
    np.testing.assert_allclose(maps, gradient(logits_fn, inputs, TARGETS), rtol=1e-5, atol=1e-7)  # A sum of three.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "samples must be at least 1, not 0"),
        ({"noise": -0.1}, "noise must be at least 0, not -0.1"),
        ({"noise": float("nan")}, "noise must be finite, not nan"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        smoothgrad(cubes, np.ones((1, 2, 2, 1), np.float32), np.array([0]), key=jax.random.key(0), **settings)
