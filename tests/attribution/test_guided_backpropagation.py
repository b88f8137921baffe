import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from coda_jax import CoDANet, InputError
from coda_jax.attribution.gradient import gradient
from coda_jax.attribution.guided_backpropagation import guided_backpropagation
from tests.attribution.networks import (
    CAPTUM_TOLERANCE,
    TARGETS,
    by_captum,
    import_captum,
    random_variables,
    small_cnn,
    torch_cnn,
)
from tests.golden import assert_close

NONE = "guided backpropagation is defined by a network's ReLUs, and this one has none"

HIDDEN = np.array([[1, 1, -1], [1, -1, 0]], np.float32)
WEIGHTS = np.array([[1, -1], [2, 5], [3, 1]], np.float32)
PIXEL = np.array([3, 1], np.float32).reshape(1, 1, 1, 2)
TARGET = np.array([[0, 1]])
# The hidden values are (4, 2, -3): the third passes nothing back, nor does the first where its weight is -1.
GUIDED = [[3, -1], [5, -5]]


def perceptron(activation):
    return lambda inputs: activation(inputs[:, 0, 0] @ HIDDEN) @ WEIGHTS


@jax.custom_vjp
def relu_with_a_wrong_gradient(x):
    return jnp.maximum(x, 0)


relu_with_a_wrong_gradient.defvjp(lambda x: (jnp.maximum(x, 0), None), lambda _, cotangent: (7 * cotangent,))


@jax.custom_jvp
def relu_and_nothing_else(x):
    return jax.jit(jax.nn.relu)(x)


relu_and_nothing_else.defjvp(lambda primals, tangents: (jax.nn.relu(*primals), *tangents))

RELUS = {
    "jax.nn.relu": jax.nn.relu,
    "nn.relu": nn.relu,
    "maximum": lambda x: jnp.maximum(x, 0),
    "maximum of float": lambda x: jnp.maximum(x, 0.0),
    "jit": jax.jit(jax.nn.relu),
    "jit of maximum": jax.jit(lambda x: jnp.maximum(x, 0)),
    "checkpoint": jax.checkpoint(jax.nn.relu),
    "checkpoint of more": jax.checkpoint(lambda x: 2 * jnp.maximum(x / 2, 0)),
    "vmap": jax.vmap(jax.nn.relu),
    "custom_vjp": relu_with_a_wrong_gradient,
    "custom_jvp of relu": relu_and_nothing_else,
}


@pytest.mark.parametrize("name", RELUS)
def test_by_hand_however_relu_is_written(name):
    logits_fn = perceptron(RELUS[name])
    np.testing.assert_array_equal(guided_backpropagation(logits_fn, PIXEL, TARGET)[0, :, 0, 0], GUIDED)


def test_by_hand_where_the_input_is_zero():
    pixel = np.array([2, -2], np.float32).reshape(1, 1, 1, 2)  # The hidden values are (0, 4, -2).
    maps = guided_backpropagation(perceptron(jax.nn.relu), pixel, TARGET)
    np.testing.assert_array_equal(maps[0, :, 0, 0], [[2, -2], [5, -5]])


def test_other_operations_have_their_own_gradient():
    def logits_fn(inputs):
        pixel = inputs[:, 0, 0]
        return jax.nn.relu(pixel) - jax.nn.softplus(pixel) - jax.nn.relu6(pixel) - jnp.maximum(0, pixel) ** 2

    pixel = np.array([3, 1], np.float32)
    maps = guided_backpropagation(logits_fn, PIXEL, TARGET)
    expected = 1 - jax.nn.sigmoid(pixel) - 1 - 2 * pixel
    np.testing.assert_allclose(maps[0, :, 0, 0], np.diag(expected), rtol=1e-6)  # Rounding.


def test_variances_of_normalisation_layers_are_not_guided():
    normalise = nn.LayerNorm()
    rng = np.random.default_rng(0)
    inputs, weights = rng.normal(size=(3, 2, 2, 4)), rng.normal(size=(16, 3))
    with jax.enable_x64(True):
        variables = normalise.init(jax.random.key(0), jnp.asarray(inputs))

        def logits_fn(inputs):
            normalised = normalise.apply(variables, inputs).reshape(len(inputs), -1)
            return nn.relu(normalised @ weights + 100)  # Positive, so that this ReLU is the identity.

        maps = guided_backpropagation(logits_fn, inputs, TARGETS[:3])
        assert_close(maps, gradient(logits_fn, inputs, TARGETS[:3]), 1e-12)  # Rounding.


def test_is_captums():
    captum = import_captum()
    method = captum.GuidedBackprop(torch_cnn())
    expected = by_captum(lambda inputs, targets: method.attribute(inputs.requires_grad_(), targets))
    with jax.enable_x64(True):
        logits_fn, inputs = small_cnn(jnp.float64)
        maps = guided_backpropagation(logits_fn, inputs, TARGETS)
        assert_close(maps, expected, CAPTUM_TOLERANCE)
        plain = gradient(logits_fn, inputs, TARGETS)
    assert np.abs(maps - plain).max() > 0.1 * np.abs(plain).max()  # The comparison is of more than gradients.


def test_targets_and_chunks_change_nothing():
    logits_fn, inputs = small_cnn()
    maps = guided_backpropagation(logits_fn, inputs, TARGETS)
    close = {"rtol": 1e-5, "atol": 1e-6}  # Rounding of float32 sums of some hundred products.
    for column, targets in enumerate(TARGETS.T):
        np.testing.assert_allclose(guided_backpropagation(logits_fn, inputs, targets), maps[:, column, None], **close)
    chunked = guided_backpropagation(logits_fn, inputs, TARGETS, chunk_size=2)
    np.testing.assert_allclose(chunked, maps, **close)


@pytest.mark.parametrize(
    "activation",
    [
        jnp.tanh,
        jax.nn.relu6,
        jax.nn.softplus,
        jax.nn.leaky_relu,
        lambda x: jnp.maximum(0, x),
        lambda x: jnp.maximum(x, 1),
        lambda x: nn.LayerNorm(use_scale=False, use_bias=False).apply({}, x),
        lambda x: x * jnp.maximum(jnp.arange(3) - 1, 0),  # Whole numbers, of no network.
    ],
)
def test_networks_without_relus(activation):
    with pytest.raises(InputError, match=NONE):
        guided_backpropagation(perceptron(activation), PIXEL, TARGET)


@pytest.mark.parametrize("size", [6, 64])  # The larger maps are computed in a loop.
def test_coda_nets_have_no_relus(size):
    model = CoDANet((16, 3), (32, 4), (3, 1), (1, 1), (1, 0))
    inputs = np.full((4, size, size, 6), 0.5, np.float32)
    variables = random_variables(model, inputs)
    program = str(jax.make_jaxpr(model.apply)(variables, inputs))
    assert "remat" in program
    assert ("scan" in program) == (size == 64 and jax.default_backend() == "cpu")
    with pytest.raises(InputError, match=NONE):
        guided_backpropagation(lambda inputs: model.apply(variables, inputs), inputs, np.zeros(4, int))


@pytest.mark.parametrize(
    ("activation", "operation"),
    [
        (lambda x: lax.map(jax.nn.relu, x), "scan"),
        (lambda x: lax.map(jax.jit(lambda row: jnp.maximum(row, 0)), x), "scan"),
        (lambda x: lax.fori_loop(0, jnp.int32(x.shape[0]), lambda _, x: jax.nn.relu(x), x), "while"),
        (lambda x: lax.cond(x.sum() > 0, jax.nn.relu, jnp.negative, x), "cond"),
        (lambda x: jax.checkpoint(lambda x: lax.map(jax.nn.relu, x))(x), "scan"),
        (lambda x: jax.nn.relu(lax.map(jax.nn.relu, x)), "scan"),
    ],
)
def test_relus_in_loops_and_branches_are_refused(activation, operation):
    with pytest.raises(InputError, match=f"cannot reach this network's ReLUs inside of {operation}: write them"):
        guided_backpropagation(perceptron(activation), PIXEL, TARGET)
