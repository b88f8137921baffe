"""Every method explains one network in Flax linen, in Flax nnx and in plain JAX; and captum explains it in PyTorch."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax import lax
from jax.tree_util import Partial

from coda_jax import InputError, attribution
from tests.attribution.networks import CAPTUM_TOLERANCE, INPUTS, TARGETS, by_captum, import_captum
from tests.golden import assert_close

ROUNDING = 1e-12  # Of the largest value: float64 sums of some hundred products.
KEY = jax.random.key(0)


def make_weights():
    rng = np.random.default_rng(0)
    return {
        "conv1": {"kernel": rng.normal(size=(3, 3, 2, 5)) / 4, "bias": rng.normal(size=5) / 5},
        "norm": {
            "scale": rng.uniform(0.5, 2, 5),
            "bias": rng.normal(size=5) / 5,
            "mean": rng.normal(size=5) / 5,
            "var": rng.uniform(0.5, 2, 5),
        },
        "conv2": {"kernel": rng.normal(size=(3, 3, 5, 4)) / 6, "bias": rng.normal(size=4) / 5},
        "dense": {"kernel": rng.normal(size=(4, 3)) / 2, "bias": rng.normal(size=3) / 5},
    }


WEIGHTS = make_weights()


class Linen(nn.Module):
    activation: Callable = nn.relu
    max_pool: Callable = nn.max_pool

    def setup(self):
        self.conv1, self.conv2, self.dense = nn.Conv(5, (3, 3)), nn.Conv(4, (3, 3)), nn.Dense(3)
        self.norm = nn.BatchNorm(use_running_average=True)

    def __call__(self, x):
        return self.head(self.features(x))

    def features(self, x):
        # Were pooling right after a ReLU, captum's DeepLIFT would not sum to the difference of the logits.
        x = self.norm(self.max_pool(self.conv1(x), (2, 2), (2, 2)))
        return self.conv2(self.activation(x))

    def head(self, x):
        return self.dense(self.activation(x).mean((1, 2)))


class Nnx(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv1, self.conv2 = nnx.Conv(2, 5, (3, 3), rngs=rngs), nnx.Conv(5, 4, (3, 3), rngs=rngs)
        self.norm, self.dense = nnx.BatchNorm(5, rngs=rngs), nnx.Linear(4, 3, rngs=rngs)
        self.activation, self.max_pool = nnx.relu, nnx.max_pool

    __call__, features, head = Linen.__call__, Linen.features, Linen.head


def convolve(x, weights):
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, weights["kernel"], (1, 1), "SAME", dimension_numbers=layout) + weights["bias"]


def maximum(x, window, strides):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *strides, 1), "VALID")


def relu(x):
    return jnp.maximum(x, 0)


def plain_features(weights, x, activation=relu, max_pool=maximum):
    norm = weights["norm"]
    x = max_pool(convolve(x, weights["conv1"]), (2, 2), (2, 2))
    x = (x - norm["mean"]) / jnp.sqrt(norm["var"] + 1e-5) * norm["scale"] + norm["bias"]
    return convolve(activation(x), weights["conv2"])


def plain_head(weights, x, activation=relu):
    return activation(x).mean((1, 2)) @ weights["dense"]["kernel"] + weights["dense"]["bias"]


class Network(NamedTuple):
    whole: Callable
    features: Callable
    head: Callable
    replaced: Callable


def linen_network():
    layers = {name: dict(layer) for name, layer in WEIGHTS.items()}
    statistics = {name: layers["norm"].pop(name) for name in ("mean", "var")}
    variables = {"params": layers, "batch_stats": {"norm": statistics}}

    def apply(method, activation=nn.relu, max_pool=nn.max_pool):
        return Partial(partial(Linen(activation, max_pool).apply, method=method), variables)

    return Network(apply("__call__"), apply("features"), apply("head"), partial(apply, "__call__"))


def nnx_network():
    model = Nnx()
    nnx.update(model, jax.tree.map(jnp.asarray, WEIGHTS))
    model.eval()

    def replaced(activation, max_pool=nnx.max_pool):
        other = nnx.clone(model)
        other.activation, other.max_pool = activation, max_pool
        return other

    return Network(model, model.features, model.head, replaced)


def plain_network():
    def whole(activation, max_pool, x):
        return plain_head(WEIGHTS, plain_features(WEIGHTS, x, activation, max_pool), activation)

    def replaced(activation, max_pool=maximum):
        return partial(whole, activation, max_pool)

    return Network(replaced(relu), partial(plain_features, WEIGHTS), partial(plain_head, WEIGHTS), replaced)


EXPLAIN = {
    "gradient": lambda network, *arguments: attribution.gradient(network.whole, *arguments),
    "input_x_gradient": lambda network, *arguments: attribution.input_x_gradient(network.whole, *arguments),
    "integrated_gradients": lambda network, *arguments: attribution.integrated_gradients(
        network.whole, *arguments, steps=8
    ),
    "smoothgrad": lambda network, *arguments: attribution.smoothgrad(network.whole, *arguments, key=KEY, samples=3),
    "guided_backpropagation": lambda network, *arguments: attribution.guided_backpropagation(
        network.replaced, *arguments
    ),
    "deeplift": lambda network, *arguments: attribution.deeplift(network.replaced, *arguments),
    "gradcam": lambda network, *arguments: attribution.gradcam(network.head, *arguments, features=network.features),
    "occlusion": lambda network, *arguments: attribution.occlusion(network.whole, *arguments, window=3, stride=1),
    "rise": lambda network, *arguments: attribution.rise(network.whole, *arguments, key=KEY, masks=20, cells=3),
    "lime": lambda network, *arguments: attribution.lime(
        network.whole, *arguments, key=KEY, segments=6, compactness=0.1, samples=30
    ),
}


def test_every_method_is_here():
    assert set(EXPLAIN) == {name for name, method in vars(attribution).items() if callable(method)}


@pytest.mark.parametrize("method", EXPLAIN)
def test_the_same_network_in_linen_nnx_and_plain_jax_has_the_same_attributions(method):
    with jax.enable_x64(True):
        of_linen, of_nnx, of_plain = (
            EXPLAIN[method](network(), jnp.asarray(INPUTS), TARGETS)
            for network in (linen_network, nnx_network, plain_network)
        )
    assert of_linen.dtype == jnp.float64 and np.abs(of_linen).max() > 1e-3
    assert_close(of_nnx, of_linen, ROUNDING)
    assert_close(of_plain, of_linen, ROUNDING)


def torch_network():
    import torch

    network = torch.nn.Sequential(
        torch.nn.Conv2d(2, 5, 3, padding=1),
        torch.nn.MaxPool2d(2),
        torch.nn.BatchNorm2d(5, eps=1e-5),
        torch.nn.ReLU(),
        torch.nn.Conv2d(5, 4, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 3),
    )
    with torch.no_grad():
        for place, name in ((0, "conv1"), (2, "norm"), (4, "conv2"), (8, "dense")):
            names = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
            for key, values in WEIGHTS[name].items():
                values = torch.from_numpy(values)  # [..., in, out]; in PyTorch [out, in, ...].
                values = values.movedim((-1, -2), (0, 1)) if key == "kernel" else values
                getattr(network[place].double(), names.get(key, key)).copy_(values)
    return network.double().eval()


def attribute_by_gradcam(captum, network, inputs, targets):
    maps = captum.LayerGradCam(network, network[4]).attribute(inputs, targets, relu_attributions=True)
    return captum.LayerAttribution.interpolate(maps, inputs.shape[2:], "bilinear").expand(inputs.shape) / 2


BY_CAPTUM = {
    "gradient": lambda captum, network, *of: captum.Saliency(network).attribute(*of, abs=False),
    "input_x_gradient": lambda captum, network, *of: captum.InputXGradient(network).attribute(*of),
    "integrated_gradients": lambda captum, network, inputs, targets: captum.IntegratedGradients(network).attribute(
        inputs, 0, targets, n_steps=8, method="riemann_middle"
    ),
    "guided_backpropagation": lambda captum, network, *of: captum.GuidedBackprop(network).attribute(*of),
    "deeplift": lambda captum, network, inputs, targets: captum.DeepLift(network).attribute(inputs, 0, targets),
    "gradcam": attribute_by_gradcam,
    # Captum gives to each channel what ours shares among them.
    "occlusion": lambda captum, network, inputs, targets: (
        captum.Occlusion(network).attribute(inputs, (2, 3, 3), (2, 1, 1), 0, targets) / 2
    ),
}


@pytest.mark.parametrize("method", BY_CAPTUM)
def test_the_attributions_are_captums(method):
    captum = import_captum()
    network = torch_network()
    explain = partial(BY_CAPTUM[method], captum, network)
    expected = by_captum(lambda inputs, targets: explain(inputs.requires_grad_(), targets))
    with jax.enable_x64(True):
        maps = EXPLAIN[method](linen_network(), jnp.asarray(INPUTS), TARGETS)
    # Captum adds up what occlusion finds in float32.
    assert_close(maps, expected, 1e-6 if method == "occlusion" else CAPTUM_TOLERANCE)


def test_gradcam_by_the_name_of_a_layer_is_that_of_the_parts():
    with jax.enable_x64(True):
        network, inputs = linen_network(), jnp.asarray(INPUTS)
        by_name = attribution.gradcam(network.whole, inputs, TARGETS, layer="conv2")
        assert_close(by_name, EXPLAIN["gradcam"](network, inputs, TARGETS), ROUNDING)


@pytest.mark.parametrize("part", [lambda model: model, lambda model: model.__call__], ids=["module", "method"])
def test_changes_of_an_nnx_module_are_seen(part):
    model = Nnx()
    model.eval()
    inputs = INPUTS.astype(np.float32)
    before = attribution.gradient(part(model), inputs, TARGETS)
    model.dense.kernel[...] = 2 * model.dense.kernel[...]
    np.testing.assert_allclose(attribution.gradient(part(model), inputs, TARGETS), 2 * before, rtol=1e-6)  # Rounding.


def test_an_nnx_module_is_compiled_once():
    traces = []

    class Counting(Nnx):
        def __call__(self, x):
            traces.append(None)
            return super().__call__(x)

    model = Counting()
    model.eval()
    attribution.gradient(model, INPUTS.astype(np.float32), TARGETS)
    first = len(traces)
    model.dense.kernel[...] = 2 * model.dense.kernel[...]
    attribution.gradient(model, INPUTS.astype(np.float32), TARGETS)
    assert len(traces) == first


@pytest.mark.parametrize("method", ["gradient", "occlusion"])
def test_nnx_modules_in_training_mode_are_refused(method):
    model = Nnx()
    network = Network(model, model.features, model.head, None)
    averages = np.asarray(model.norm.mean[...])
    with pytest.raises(InputError, match="logits_fn cannot take .*: Cannot mutate BatchStat"):
        EXPLAIN[method](network, INPUTS.astype(np.float32), TARGETS)
    np.testing.assert_array_equal(model.norm.mean[...], averages)
