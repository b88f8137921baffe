"""A small network of ReLUs in Flax, and the same in PyTorch, for which captum has other people's implementations."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.tree_util import Partial

# Of the largest value: rounding of float64 sums of some hundred products is below 1e-13.
CAPTUM_TOLERANCE = 1e-10


class SmallCNN(nn.Module):
    activation: Callable = nn.relu

    @nn.compact
    def __call__(self, inputs):
        x = self.activation(nn.Conv(5, (3, 3), padding=1)(inputs))
        x = self.activation(nn.Conv(4, (3, 3), strides=2, padding=1)(x))
        return nn.Dense(3)(x.mean((1, 2)))


def _layer(rng, *shape):
    kernel = rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))
    return {"kernel": kernel, "bias": rng.normal(size=shape[-1]) / 5}


def _make_variables():
    rng = np.random.default_rng(0)
    layers = {"Conv_0": _layer(rng, 3, 3, 2, 5), "Conv_1": _layer(rng, 3, 3, 5, 4), "Dense_0": _layer(rng, 4, 3)}
    return {"params": layers}


VARIABLES = _make_variables()
INPUTS = np.random.default_rng(1).normal(size=(5, 8, 6, 2))
TARGETS = np.array([[0, 2], [1, 1], [2, 0], [0, 1], [2, 1]])


def small_cnn(dtype=jnp.float32):
    """(logits_fn, inputs [5, 8, 6, 2]) of `dtype`."""
    variables = jax.tree.map(lambda array: jnp.asarray(array, dtype), VARIABLES)
    return Partial(SmallCNN().apply, variables), jnp.asarray(INPUTS, dtype)


def replaceable_cnn(dtype=jnp.float32):
    """(make_logits_fn, inputs [5, 8, 6, 2]) of `dtype`, for methods that replace the activation."""
    logits_fn, inputs = small_cnn(dtype)
    return lambda activation, *_: Partial(SmallCNN(activation).apply, *logits_fn.args), inputs


def random_variables(model, inputs):
    """A Flax model's variables, from NumPy: compiling their initialisation takes longer than most tests."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    return jax.tree.map(lambda array: rng.uniform(-0.3, 0.3, array.shape).astype(array.dtype), shapes)


def import_captum():
    """captum.attr, where it is installed."""
    return pytest.importorskip("captum.attr", reason="needs captum, an independent implementation")


def torch_cnn():
    """The network in PyTorch, in float64: [N, 2, H, W] -> [N, 3]."""
    import torch

    network = torch.nn.Sequential(
        torch.nn.Conv2d(2, 5, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(5, 4, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 3),
    ).double()
    layers = VARIABLES["params"]
    with torch.no_grad():
        for module, name in ((network[0], "Conv_0"), (network[2], "Conv_1"), (network[6], "Dense_0")):
            module.weight.copy_(torch.from_numpy(np.moveaxis(layers[name]["kernel"], (-1, -2), (0, 1)).copy()))
            module.bias.copy_(torch.from_numpy(layers[name]["bias"]))
    return network


def by_captum(explain):
    """[5, 2, 8, 6, C] from `explain(inputs [5, 2, 8, 6], targets [5])` -> [5, C, 8, 6], as captum's methods are."""
    import torch

    inputs = torch.from_numpy(INPUTS).permute(0, 3, 1, 2)
    maps = [explain(inputs.clone(), torch.from_numpy(column)) for column in TARGETS.T]
    return torch.stack(maps, dim=1).permute(0, 1, 3, 4, 2).detach().numpy()
