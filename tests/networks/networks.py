"""Variables for conventional networks, and the layers that they are made of in PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np

# Of the largest value: float64's rounding over some layers of sums of hundreds of products is below 1e-12.
TORCH_TOLERANCE = 1e-10


def shapes_of(model, size=8):
    """Shapes and float32 dtypes of a network's variables."""
    inputs = jnp.zeros((1, size, size, 6))
    return jax.eval_shape(model.clone(dtype="float32").init, jax.random.key(0), inputs)


def random_variables(model, size=8):
    """Float64 NumPy variables whose activations neither vanish nor explode, as after training."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            return rng.normal(size=leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape)
        return rng.normal(size=leaf.shape) / 5  # Biases and means.

    return jax.tree_util.tree_map_with_path(draw, shapes_of(model, size))


def torch_layer(params, statistics, stride=1):
    """A convolution and its batch normalisation in PyTorch, in float64."""
    import torch

    kernel, norm = params["Conv_0"]["kernel"], params["BatchNorm_0"]
    convolution = torch.nn.Conv2d(*kernel.shape[2:], 3, stride, 1, bias=False)
    batch_norm = torch.nn.BatchNorm2d(kernel.shape[3])
    state = {"weight": norm["scale"], "bias": norm["bias"]}
    state |= {f"running_{name}": value for name, value in statistics["BatchNorm_0"].items()}
    with torch.no_grad():
        convolution.weight.data = torch.from_numpy(np.moveaxis(kernel, (-1, -2), (0, 1)).copy())
        for name, value in state.items():
            getattr(batch_norm, name).data = torch.from_numpy(value.copy())
    return torch.nn.Sequential(convolution, batch_norm)


def torch_linear(params):
    """A linear layer in PyTorch, in float64."""
    import torch

    linear = torch.nn.Linear(*params["kernel"].shape)
    linear.weight.data, linear.bias.data = torch.from_numpy(params["kernel"].T.copy()), torch.from_numpy(params["bias"])
    return linear
