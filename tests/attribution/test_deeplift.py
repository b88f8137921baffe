from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from coda_jax import InputError
from coda_jax.attribution.deeplift import deeplift, rescaled_activation
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


def by_activation(network):
    """A make_logits_fn from `network(f, inputs)`, in which `f(function, x)` applies an element-wise function."""

    def make_logits_fn(activation, _):
        def f(function, x):
            return activation(x, function) if activation is rescaled_activation else function(x)

        return partial(network, f)

    return make_logits_fn


def two_logits(logit):
    """A make_logits_fn of twice and minus a logit of one pixel's two channels."""

    def network(f, inputs):
        value = logit(f, inputs[:, 0, 0, 0], inputs[:, 0, 0, 1])
        return jnp.stack([2 * value, -value], axis=-1)

    return by_activation(network)


def test_by_hand():
    maps = deeplift(two_logits(lambda f, a, b: f(nn.relu, a + b - 1)), PIXEL, TARGET)
    # The sum is 3 at the input and -1 at the baseline: the slope is 3 / 4.
    np.testing.assert_allclose(maps[0, :, 0, 0], [[4.5, 1.5], [-2.25, -0.75]], rtol=1e-6)  # Rounding.


def test_by_hand_through_two_layers():
    make_logits_fn = two_logits(lambda f, a, b: f(jnp.tanh, f(nn.relu, a - 2) - 3 * f(nn.relu, b + 1)))
    maps = deeplift(make_logits_fn, PIXEL, TARGET[:, :1])
    # ReLUs: from 0 to 1, slope 1 / 3, and from 1 to 2, slope 1. Between them and tanh: from -3 to -5.
    slope = (np.tanh(-5) - np.tanh(-3)) / -2
    np.testing.assert_allclose(maps[0, 0, 0, 0], [2 * slope, -6 * slope], rtol=1e-4)  # A difference of numbers near 1.


def test_max_pooling_by_hand():
    # In windows of two: 0, 1 -> 5, 2 rises to its first pixel; 4, 6 -> 1, 3 falls from its second, which was the
    # largest; 3, 7 -> 7, 2 has the same maximum in another place; 2, 1 -> 2, 0 has it where nothing has changed.
    baseline = np.array([0, 1, 4, 6, 3, 7, 2, 1], np.float32).reshape(8, 1, 1)
    inputs = np.array([5, 2, 1, 3, 7, 2, 2, 0], np.float32).reshape(1, 8, 1, 1)
    maps = deeplift(
        lambda _, max_pool: lambda x: max_pool(x, (2, 1), (2, 1)).sum((1, 2)), inputs, [0], baseline=baseline
    )
    np.testing.assert_array_equal(maps.ravel(), [4, 0, 0, -3, 0, 0, 0, 0])


@pytest.mark.parametrize("baseline", [np.array([1, -2]), np.array([[[1, -2]]], np.float32)])
def test_baseline_by_hand(baseline):
    maps = deeplift(two_logits(lambda f, a, b: f(nn.relu, a + b)), PIXEL, TARGET, baseline=baseline)
    # The sum is 4 at the input and -1 at the baseline: the slope is 4 / 5, the differences are 2 and 3.
    np.testing.assert_allclose(maps[0, :, 0, 0], [[3.2, 4.8], [-1.6, -2.4]], rtol=1e-6)  # Rounding.


def cube(x):
    return x**3


ELEMENTWISE = {
    "relu": jax.nn.relu,
    "maximum": lambda x: jnp.maximum(x, 0.5),
    "maximum with an array": lambda x: jnp.maximum(jnp.linspace(-1, 1, 12), x),
    "clip": lambda x: jnp.clip(x, -0.5, 0.5),
    "relu6": jax.nn.relu6,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "silu": jax.nn.silu,
    "hard_silu": jax.nn.hard_silu,
    "softplus": jax.nn.softplus,
    "gelu": jax.jit(jax.nn.gelu),
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "exp": jnp.exp,
    "log": lambda x: jnp.log(x + 5),
    "sqrt": lambda x: jnp.sqrt(x + 5),
    "rsqrt": lambda x: lax.rsqrt(x + 5),
    "square": jnp.square,
    "integer_pow": cube,
    "pow": lambda x: (x + 5) ** 1.5,
    "power of a number": lambda x: 2**x,
    "quotient": lambda x: 3 / (x + 5),
    "erf": lax.erf,
    "abs": jnp.abs,
    "sign": jnp.sign,
    "sin": jnp.sin,
    "jit": jax.jit(lambda x: cube(x) - x * jnp.tanh(x)),
    "checkpoint": jax.checkpoint(lambda x: jnp.sin(x) * x),
}


def test_elementwise_functions_make_their_difference():
    inputs, baseline = np.split(np.random.default_rng(0).normal(size=(3, 3, 2, 2)), [2])
    targets = np.tile(np.arange(len(ELEMENTWISE)), (2, 1))
    with jax.enable_x64(True):

        def values(inputs, f=lambda function, x: function(x)):
            flat = inputs.reshape(len(inputs), -1)
            return jnp.stack([f(function, flat) for function in ELEMENTWISE.values()], axis=1)

        make_logits_fn = by_activation(lambda f, inputs: jnp.sum(values(inputs, f), axis=-1))
        maps = deeplift(make_logits_fn, inputs, targets, baseline=baseline[0])
        expected = np.asarray(values(inputs) - values(baseline)).reshape(maps.shape)
        for number, name in enumerate(ELEMENTWISE):
            print(name)  # To be seen where the next line fails.
            assert_close(maps[:, number], expected[:, number], 1e-13)  # Rounding.


@pytest.mark.parametrize("baseline", [0.0, 0.3, INPUTS[0]])
def test_sums_to_the_difference_of_the_logits(baseline):
    with jax.enable_x64(True):
        make_logits_fn, inputs = replaceable_cnn(jnp.float64)
        maps = deeplift(make_logits_fn, inputs, TARGETS, baseline=baseline)
        logits_fn = make_logits_fn(nn.relu)
        logits = logits_fn(inputs) - logits_fn(jnp.broadcast_to(jnp.asarray(baseline), inputs.shape))
        expected = np.take_along_axis(np.asarray(logits), TARGETS, axis=1)
        assert_close(maps.sum((2, 3, 4)), expected, 1e-12)  # Rounding.


@pytest.mark.parametrize("at", [0.0, 0.5])
def test_rounding_does_not_reach_the_multipliers(at):
    functions = (jax.nn.sigmoid, jax.nn.softplus, jnp.tanh, jnp.exp, jax.nn.silu, cube)

    def network(f, inputs):
        activation = inputs[:, 0, 0, 0] - inputs[:, 0, 0, 1] + at
        return jnp.stack([f(function, activation) for function in functions], axis=-1)

    # The activation changes by 2^-20, its functions by a few units in the last place; but the inputs by 3.
    pixel = np.array([3 + 2**-20, 3], np.float32).reshape(1, 1, 1, 2)
    maps = deeplift(by_activation(network), pixel, np.arange(len(functions))[None])
    slopes = np.array([jax.grad(function)(at) for function in functions])
    # The derivative changes by about as much as the activation.
    np.testing.assert_allclose(maps[0, :, 0, 0], np.stack([3 * slopes, -3 * slopes], axis=-1), rtol=1e-5, atol=1e-5)


def test_small_changes_have_the_slope_by_hand():
    maps = deeplift(two_logits(lambda f, a, b: f(jnp.square, a)), PIXEL, TARGET[:, :1], baseline=PIXEL[0] - 2**-7)
    # 3² - (3 - 2^-7)² = 2^-7 (6 - 2^-7), where the derivative would give 2^-7 · 6.
    np.testing.assert_allclose(maps[0, 0, 0, 0], [2 * 2**-7 * (6 - 2**-7), 0], rtol=2e-4)  # Rounding of 9, over 2^-7.


def test_activations_that_do_not_change_have_the_derivative():
    pixel = np.full((1, 1, 1, 2), 2, np.float32)
    maps = deeplift(two_logits(lambda f, a, b: f(jnp.tanh, a - b) + f(nn.relu, b - a + 1)), pixel, TARGET)
    np.testing.assert_allclose(maps[0, :, 0, 0], np.zeros((2, 2)), atol=1e-6)  # Slopes of 1, which cancel.
    maps = deeplift(two_logits(lambda f, a, b: f(jnp.tanh, a - b)), pixel, TARGET)
    np.testing.assert_allclose(maps[0, :, 0, 0], [[4, -4], [-2, 2]], rtol=1e-6)  # Rounding.


def test_equal_derivatives_at_both_ends_are_not_the_slope():
    maps = deeplift(two_logits(lambda f, a, b: f(jnp.tanh, a)), PIXEL, TARGET, baseline=-PIXEL[0])
    np.testing.assert_allclose(maps[0, 0, 0, 0], [4 * np.tanh(3), 0], rtol=1e-6)  # Rounding.


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
        deeplift(two_logits(lambda f, a, b: a + b), PIXEL, TARGET, baseline=np.zeros(shape))
