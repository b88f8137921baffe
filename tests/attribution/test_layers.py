from functools import partial

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax.tree_util import Partial

from coda_jax import CoDANet, InputError
from coda_jax.attribution import gradient, input_x_gradient
from coda_jax.attribution.layers import split
from coda_jax.contributions import layer_contributions
from tests.attribution.networks import TARGETS, VARIABLES, random_variables, small_cnn

CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # Rounding of float32 sums of some hundred products.


def test_the_last_part_by_hand():
    logits_fn, inputs = small_cnn()
    features, head = split(logits_fn, inputs, "Conv_1")
    output = np.asarray(jax.jit(features)(inputs))
    assert output.shape == (5, 4, 3, 4)
    dense = VARIABLES["params"]["Dense_0"]
    expected = np.maximum(output, 0).mean((1, 2)) @ dense["kernel"] + dense["bias"]
    np.testing.assert_allclose(jax.jit(head)(output), expected, **CLOSE)
    np.testing.assert_allclose(logits_fn(inputs), expected, **CLOSE)
    # The mean of twelve positions, and the weights of the class where the ReLU is open.
    maps = gradient(head, output, TARGETS)
    by_hand = (output > 0)[:, None] * dense["kernel"].T[TARGETS][:, :, None, None] / 12
    np.testing.assert_allclose(maps, by_hand, **CLOSE)


def test_layers_of_a_coda_net():
    settings = {"channels": (4, 3), "ranks": (2, 4), "kernel_sizes": (3, 2), "strides": (2, 1), "paddings": (1, 0)}
    model, inputs = CoDANet(**settings), np.random.default_rng(1).random((4, 8, 6, 6), np.float32)
    variables = random_variables(model, inputs)
    _, linear_map = jax.jit(partial(model.apply, method="decompose"))(variables, inputs)
    for layer in (0, 1):
        features, head = split(Partial(model.apply, variables), inputs, f"layers_{layer}")
        np.testing.assert_allclose(jax.jit(features)(inputs), linear_map.inputs[layer + 1], **CLOSE)
    # All that is left is a sum: there input times gradient is the contributions.
    maps = input_x_gradient(head, linear_map.inputs[2], TARGETS[:4])
    np.testing.assert_allclose(maps, layer_contributions(model, variables, inputs, TARGETS[:4], layer=2), **CLOSE)


class Shortcut(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(3)((inputs + nn.Conv(2, (3, 3))(inputs)).mean((1, 2)))


class Shared(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        conv = nn.Conv(2, (3, 3))
        return nn.Dense(3)(nn.Conv(2, (3, 3), name="last")(conv(conv(inputs))).mean((1, 2)))


def test_other_modules_may_be_called_several_times():
    _, inputs = small_cnn()
    logits_fn = Partial(Shared().apply, random_variables(Shared(), inputs))
    features, head = split(logits_fn, inputs, "last")
    np.testing.assert_allclose(jax.jit(head)(jax.jit(features)(inputs)), logits_fn(inputs), **CLOSE)


@pytest.mark.parametrize(
    ("network", "layer", "message"),
    [
        (Shortcut(), "Conv_0", '"Conv_0" must be a layer whose output is all that the logits depend on'),
        (Shared(), "Conv_0", 'layer must be called once, but "Conv_0" is called 2 times'),
        (Shared(), "first", 'the network has no layer "first"'),
        (Shared(), "Dense_0", r'layer "Dense_0" must return floating-point \[5, h, w, K\], not float32 \[5, 3\]'),
    ],
)
def test_bad_layers(network, layer, message):
    _, inputs = small_cnn()
    logits_fn = Partial(network.apply, random_variables(network, inputs))
    with pytest.raises(InputError, match=message):
        split(logits_fn, inputs, layer)
