import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from coda_jax import InputError
from coda_jax.attribution.gradient import gradient
from coda_jax.attribution.guided_backpropagation import guided_backpropagation
from tests.attribution.networks import (
    CAPTUM_TOLERANCE,
    TARGETS,
    by_captum,
    import_captum,
    replaceable_cnn,
    torch_cnn,
)
from tests.golden import assert_close

HIDDEN = np.array([[1, 1, -1], [1, -1, 0]], np.float32)
WEIGHTS = np.array([[1, -1], [2, 5], [3, 1]], np.float32)
PIXEL = np.array([3, 1], np.float32).reshape(1, 1, 1, 2)
TARGET = np.array([[0, 1]])
# The hidden values are (4, 2, -3): the third passes nothing back, nor does the first where its weight is -1.
GUIDED = [[3, -1], [5, -5]]


def perceptron(activation):
    return lambda inputs: activation(inputs[:, 0, 0] @ HIDDEN) @ WEIGHTS


def test_by_hand():
    np.testing.assert_array_equal(guided_backpropagation(perceptron, PIXEL, TARGET)[0, :, 0, 0], GUIDED)


def test_by_hand_where_the_input_is_zero():
    pixel = np.array([2, -2], np.float32).reshape(1, 1, 1, 2)  # The hidden values are (0, 4, -2).
    maps = guided_backpropagation(perceptron, pixel, TARGET)
    np.testing.assert_array_equal(maps[0, :, 0, 0], [[2, -2], [5, -5]])


def test_is_captums():
    captum = import_captum()
    method = captum.GuidedBackprop(torch_cnn())
    expected = by_captum(lambda inputs, targets: method.attribute(inputs.requires_grad_(), targets))
    with jax.enable_x64(True):
        make_logits_fn, inputs = replaceable_cnn(jnp.float64)
        maps = guided_backpropagation(make_logits_fn, inputs, TARGETS)
        assert_close(maps, expected, CAPTUM_TOLERANCE)
        plain = gradient(make_logits_fn(nn.relu), inputs, TARGETS)
    assert np.abs(maps - plain).max() > 0.1 * np.abs(plain).max()  # The comparison is of more than gradients.


def test_targets_and_chunks_change_nothing():
    make_logits_fn, inputs = replaceable_cnn()
    maps = guided_backpropagation(make_logits_fn, inputs, TARGETS)
    close = {"rtol": 1e-5, "atol": 1e-6}  # Rounding of float32 sums of some hundred products.
    for column, targets in enumerate(TARGETS.T):
        np.testing.assert_allclose(
            guided_backpropagation(make_logits_fn, inputs, targets), maps[:, column, None], **close
        )
    chunked = guided_backpropagation(make_logits_fn, inputs, TARGETS, chunk_size=2)
    np.testing.assert_allclose(chunked, maps, **close)


def test_what_is_no_function():
    with pytest.raises(InputError, match="make_logits_fn must be a function, not 3"):
        guided_backpropagation(3, PIXEL, TARGET)
