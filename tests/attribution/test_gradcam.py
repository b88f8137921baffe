from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax
from jax.tree_util import Partial

from coda_jax import CoDANet, InputError
from coda_jax.attribution.gradcam import gradcam
from coda_jax.attribution.gradient import target_gradients
from tests.attribution.networks import (
    CAPTUM_TOLERANCE,
    TARGETS,
    SmallCNN,
    by_captum,
    import_captum,
    random_variables,
    small_cnn,
    torch_cnn,
)
from tests.golden import assert_close

CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # Rounding of float32 sums of some hundred products.


class Pool(nn.Module):
    """The mean of neighbouring pixels; `size` 1 changes nothing."""

    size: int = 1

    def __call__(self, inputs):
        return self.pool(inputs)

    def pool(self, inputs):
        window = (self.size, self.size)
        return nn.avg_pool(inputs, window, window)


class Weighted(nn.Module):
    """Two logits: the channels' sums with weights 1 and -2; and channel 0 with other weights at every position."""

    pool: nn.Module

    def __call__(self, inputs):
        first, second = jnp.moveaxis(self.pool(inputs), -1, 0)
        weights = 4 * jnp.arange(first[0].size).reshape(first.shape[1:]) / first[0].size
        return jnp.stack([jnp.sum(first - 2 * second, (1, 2)), jnp.sum(weights * first, (1, 2))], axis=-1)


IMAGE = np.array([[[1, 1], [2, 0]], [[3, 2], [4, 0]]], np.float32)[None]


def test_by_hand():
    maps = gradcam(Partial(Weighted(Pool()).apply, {}), IMAGE, np.array([[0, 1]]), layer="pool")
    # Weights 1 and -2: 1 - 2, 2, 3 - 4, 4. Weights (0 + 1 + 2 + 3) / 4 and 0. Half for each of two channels.
    expected = np.array([[[0, 2], [0, 4]], [[1.5, 3], [4.5, 6]]]) / 2
    np.testing.assert_allclose(maps[0, ..., 0], expected, rtol=1e-6)  # Rounding.
    np.testing.assert_allclose(maps[0, ..., 1], expected, rtol=1e-6)


def test_a_function_in_two_parts_by_hand():
    maps = gradcam(Partial(Weighted(Pool()).apply, {}), IMAGE / 3, [[0, 1]], features=lambda image: 3 * image)
    np.testing.assert_allclose(maps[0].sum(-1), [[[0, 2], [0, 4]], [[1.5, 3], [4.5, 6]]], rtol=1e-6)  # As above.


def test_interpolation_by_hand():
    inputs = np.zeros((1, 2, 4, 2), np.float32)
    inputs[:, :, 2:, 0] = 4
    maps = gradcam(Partial(Weighted(Pool(2)).apply, {}), inputs, np.array([0]), layer="pool")
    # Two pixels, 0 and 4, with their centres at 0.5 and 2.5 among the columns.
    np.testing.assert_allclose(maps[0, 0].sum(-1), [[0, 1, 3, 4]] * 2, rtol=1e-6)  # Rounding.


@pytest.mark.parametrize(("layer", "number"), [("Conv_0", 0), ("Conv_1", 2)])
def test_is_captums(layer, number):
    captum = import_captum()
    network = torch_cnn()
    method = captum.LayerGradCam(network, network[number])

    def explain(inputs, targets):
        maps = method.attribute(inputs.requires_grad_(), targets, relu_attributions=True)
        return captum.LayerAttribution.interpolate(maps, inputs.shape[2:], "bilinear")

    expected = by_captum(explain)
    with jax.enable_x64(True):
        maps = gradcam(*small_cnn(jnp.float64), TARGETS, layer=layer)
        assert_close(maps.sum(-1, keepdims=True), expected, CAPTUM_TOLERANCE)
        assert_close(maps, np.broadcast_to(expected / 2, maps.shape), CAPTUM_TOLERANCE)


@pytest.mark.parametrize("layer", [0, 1])
def test_coda_nets_are_explained_at_any_layer(layer):
    settings = {"channels": (4, 3), "ranks": (2, 4), "kernel_sizes": (3, 2), "strides": (2, 1), "paddings": (1, 0)}
    model = CoDANet(**settings)
    inputs = np.random.default_rng(1).random((4, 8, 6, 6), np.float32)
    variables = random_variables(model, inputs)
    maps = gradcam(Partial(model.apply, variables), inputs, TARGETS[:4], layer=f"layers_{layer}")

    # The rest of the network, as a network of its own.
    sizes = {name: values[layer + 1 :] for name, values in settings.items()}
    later = {f"layers_{i}": variables["params"][f"layers_{layer + 1 + i}"] for i in range(1 - layer)}
    _, linear_map = jax.jit(partial(model.apply, method="decompose"))(variables, inputs)
    activation = linear_map.inputs[layer + 1]
    rest = Partial(CoDANet(**sizes).apply, {"params": later}) if later else Partial(lambda x: jnp.sum(x, axis=(1, 2)))
    weights = jax.jit(target_gradients)(rest, activation, TARGETS[:4]).mean((2, 3))
    expected = np.maximum(np.einsum("ntk,nhwk->nthw", weights, activation), 0)
    expected = jax.image.resize(expected, (4, 2, 8, 6), "bilinear")
    np.testing.assert_allclose(maps.sum(-1), expected, rtol=1e-4, atol=1e-6)  # Sums of products of float32 sums.
    assert np.abs(expected).max() > 1e-3


class Block(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return nn.relu(nn.Conv(4, (3, 3))(inputs))


class Blocks(nn.Module):
    rematerialised: bool

    @nn.compact
    def __call__(self, inputs):
        block = nn.remat(Block) if self.rematerialised else Block
        for number in range(2):
            inputs = block(name=f"Block_{number}")(inputs)
        return nn.Dense(3)(inputs.mean((1, 2)))


@pytest.mark.parametrize("layer", ["Block_1/Conv_0", "Block_0"])
def test_modules_inside_of_others_and_of_remat(layer):
    _, inputs = small_cnn()
    variables = random_variables(Blocks(False), inputs)
    plain, rematerialised = (
        gradcam(Partial(Blocks(choice).apply, variables), inputs, TARGETS, layer=layer) for choice in (False, True)
    )
    np.testing.assert_allclose(rematerialised, plain, **CLOSE)
    assert np.abs(plain).max() > 1e-3


def test_targets_and_chunks_change_nothing():
    logits_fn, inputs = small_cnn()
    maps = gradcam(logits_fn, inputs, TARGETS, layer="Conv_1")
    for column, targets in enumerate(TARGETS.T):
        np.testing.assert_allclose(gradcam(logits_fn, inputs, targets, layer="Conv_1"), maps[:, column, None], **CLOSE)
    chunked = gradcam(logits_fn, inputs, TARGETS, layer="Conv_1", chunk_size=2)
    np.testing.assert_allclose(chunked, maps, **CLOSE)


def test_logits_that_do_not_depend_on_the_layer():
    class Aside(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            nn.Conv(2, (3, 3))(inputs)
            return inputs.mean((1, 2))

    inputs = np.ones((1, 4, 4, 2), np.float32)
    variables = random_variables(Aside(), inputs)
    maps = gradcam(Partial(Aside().apply, variables), inputs, np.array([0]), layer="Conv_0")
    np.testing.assert_array_equal(maps, np.zeros((1, 1, 4, 4, 2)))


class Repeated(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        conv = nn.Conv(2, (3, 3))
        return nn.Dense(3)(conv(conv(inputs)).mean((1, 2)))


class Thresholded(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(3)(Threshold()(inputs).mean((1, 2)))


class Threshold(nn.Module):
    def __call__(self, inputs):
        return (inputs > 0).astype(jnp.int32)


@pytest.mark.parametrize(
    ("network", "layer", "message"),
    [
        (
            SmallCNN(),
            "conv_1",
            r'the network has no layer "conv_1"; the nearest names are Conv_1, Conv_0, Dense_0(\n|$)',
        ),
        (Blocks(False), "Conv_0", 'the network has no layer "Conv_0"; .* Block_1/Conv_0'),
        (SmallCNN(), "Dense_0", r'layer "Dense_0" must return floating-point \[5, h, w, K\], not float32 \[5, 3\]'),
        (SmallCNN(), "", r'layer "" must return floating-point \[5, h, w, K\], not float32 \[5, 3\]'),
        (Thresholded(), "Threshold_0", r'layer "Threshold_0" must return .* not int32 \[5, 8, 6, 2\]'),
        (Repeated(), "Conv_0", 'layer must be called once, but "Conv_0" is called 2 times'),
    ],
)
def test_bad_layers(network, layer, message):
    _, inputs = small_cnn()
    variables = random_variables(network, inputs)
    with pytest.raises(InputError, match=message):
        gradcam(Partial(network.apply, variables), inputs, TARGETS, layer=layer)


def test_functions_without_modules():
    with pytest.raises(
        InputError,
        match="layer needs a logits_fn that calls Flax linen modules, outside of jax.jit: else give features",
    ):
        gradcam(lambda inputs: inputs.mean((1, 2)), IMAGE, np.array([0]), layer="Conv_0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Grad-CAM takes either a layer, by its path, or features, a function, and not both"),
        ({"layer": "Conv_0", "features": jnp.sin}, "and not both"),
        ({"layer": 1}, "layer must be the path of a module, not 1"),
        ({"features": "Conv_0"}, "features must be a function, not 'Conv_0'"),
        (
            {"features": lambda x: x.mean((1, 2))},
            r"features must return floating-point \[1, h, w, K\], not .* \[1, 2\]",
        ),
    ],
)
def test_bad_parts(arguments, message):
    with pytest.raises(InputError, match=message):
        gradcam(lambda inputs: inputs.mean((1, 2)), IMAGE, np.array([0]), **arguments)


def test_layers_that_see_one_example_at_a_time():
    logits_fn, inputs = small_cnn()
    with pytest.raises(
        InputError, match=r'layer "Conv_1" must return floating-point \[5, h, w, K\], not float32 \[1, 4, 3, 4\]'
    ):
        gradcam(lambda inputs: lax.map(lambda one: logits_fn(one[None])[0], inputs), inputs, TARGETS, layer="Conv_1")


@pytest.mark.parametrize("chunk_size", [2, 5])
def test_compiled_modules_are_refused_rather_than_not_seen(chunk_size):
    logits_fn, inputs = small_cnn()
    with pytest.raises(InputError, match="outside of jax.jit"):
        gradcam(jax.jit(logits_fn), inputs, TARGETS, layer="Conv_1", chunk_size=chunk_size)
