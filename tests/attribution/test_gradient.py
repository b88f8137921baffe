import jax
import jax.numpy as jnp
import numpy as np

from coda_jax.attribution.gradient import gradient, target_gradients
from tests.attribution.networks import CAPTUM_TOLERANCE, TARGETS, by_captum, import_captum, small_cnn, torch_cnn
from tests.golden import assert_close


def squares_and_product(inputs):
    """Logits a² + 3b and ab of the two channels of one pixel."""
    a, b = inputs[:, 0, 0, 0], inputs[:, 0, 0, 1]
    return jnp.stack([a**2 + 3 * b, a * b], axis=-1)


def test_by_hand():
    inputs = np.array([[2, 5], [-1, 4]], np.float32).reshape(2, 1, 1, 2)
    maps = gradient(squares_and_product, inputs, np.array([[0, 1], [1, 0]]))
    expected = [[[4, 3], [5, 2]], [[4, -1], [-2, 3]]]  # (2a, 3) and (b, a).
    np.testing.assert_array_equal(maps[:, :, 0, 0], expected)


def test_target_gradients_are_differences_of_logits():
    with jax.enable_x64(True):
        logits_fn, inputs = small_cnn(jnp.float64)
        direction = jnp.asarray(np.random.default_rng(2).normal(size=inputs.shape))
        step = 1e-6
        change = (logits_fn(inputs + step * direction) - logits_fn(inputs - step * direction)) / (2 * step)
        maps = target_gradients(logits_fn, inputs, TARGETS)
        slopes = jnp.sum(maps * direction[:, None], axis=(2, 3, 4))
        # Rounding of the logits, 1e-16, over the step; the network is linear nearby.
        np.testing.assert_allclose(slopes, np.take_along_axis(np.asarray(change), TARGETS, axis=1), atol=1e-8)


def test_is_captums_saliency():
    captum = import_captum()
    saliency = captum.Saliency(torch_cnn())
    expected = by_captum(lambda inputs, targets: saliency.attribute(inputs, targets, abs=False))
    with jax.enable_x64(True):
        maps = gradient(*small_cnn(jnp.float64), TARGETS)
        assert_close(maps, expected, CAPTUM_TOLERANCE)
