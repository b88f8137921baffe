import jax
import jax.numpy as jnp
import numpy as np

from coda_jax.attribution.input_x_gradient import input_x_gradient
from tests.attribution.networks import CAPTUM_TOLERANCE, TARGETS, by_captum, import_captum, small_cnn, torch_cnn
from tests.golden import assert_close


def squares_and_product(inputs):
    """Logits a² + 3b and ab of the two channels of one pixel."""
    a, b = inputs[:, 0, 0, 0], inputs[:, 0, 0, 1]
    return jnp.stack([a**2 + 3 * b, a * b], axis=-1)


def test_by_hand():
    inputs = np.array([[2, 5], [-1, 4]], np.float32).reshape(2, 1, 1, 2)
    maps = input_x_gradient(squares_and_product, inputs, np.array([[0, 1], [1, 0]]))
    expected = [[[8, 15], [10, 10]], [[-4, -4], [2, 12]]]  # (2a², 3b) and (ab, ab).
    np.testing.assert_array_equal(maps[:, :, 0, 0], expected)


def test_sums_to_the_logit_where_it_is_homogeneous():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(4, 3, 2, 2)).astype(np.float32)
    first, second = rng.normal(size=(12, 5)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)

    def without_biases(inputs):
        return jax.nn.relu(inputs.reshape(len(inputs), -1) @ first) @ second

    maps = input_x_gradient(without_biases, inputs, np.tile(np.arange(3), (4, 1)))
    # Rounding of float32 sums of some tens of terms near 1.
    np.testing.assert_allclose(maps.sum((2, 3, 4)), without_biases(inputs), rtol=1e-5, atol=1e-5)


def test_is_captums():
    captum = import_captum()
    method = captum.InputXGradient(torch_cnn())
    expected = by_captum(lambda inputs, targets: method.attribute(inputs.requires_grad_(), targets))
    with jax.enable_x64(True):
        maps = input_x_gradient(*small_cnn(jnp.float64), TARGETS)
        assert_close(maps, expected, CAPTUM_TOLERANCE)
