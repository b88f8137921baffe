import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from coda_jax import InputError
from coda_jax.attribution.guided_backpropagation import guided_backpropagation
from coda_jax.networks.vgg import VGG, VGG_11
from tests.attribution.networks import CAPTUM_TOLERANCE, import_captum
from tests.golden import assert_close
from tests.networks.networks import TORCH_TOLERANCE, random_variables, shapes_of, torch_layer, torch_linear

SMALL = {"stages": ((4, 5), (6,)), "num_classes": 3}


def test_number_of_parameters():
    params = shapes_of(VGG(VGG_11, 10), size=32)["params"]
    widths = [6, 64, 128, 256, 256, 512, 512, 512, 512]
    # Kernels, and scales and biases of batch normalisation; then the linear layer.
    expected = sum(9 * before * after + 2 * after for before, after in zip(widths[:-1], widths[1:], strict=True))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected + 5130 == 9_230_090


def test_the_largest_of_four_pixels_is_kept():
    model = VGG(stages=((1,),), num_classes=1)
    inputs = jnp.zeros((1, 4, 2, 6)).at[0, :, :, 0].set(jnp.array([[1, 2], [4, 3], [0, 5], [7, 6]]))
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes_of(model)["params"])
    params["layers_0"]["Conv_0"]["kernel"] = params["layers_0"]["Conv_0"]["kernel"].at[1, 1, 0].set(1.0)
    params["layers_0"]["BatchNorm_0"]["scale"] = jnp.ones(1)
    params["head"] = {"kernel": jnp.full((1, 1), 2.0), "bias": jnp.ones(1)}
    statistics = {"layers_0": {"BatchNorm_0": {"mean": jnp.zeros(1), "var": jnp.ones(1)}}}
    logits = jax.jit(model.apply)({"params": params, "batch_stats": statistics}, inputs)
    # 2 · (4 + 7) / 2 + 1; the 1e-5 that is added to the variance changes it by about 5e-6 of it.
    np.testing.assert_allclose(logits, [[12.0]], rtol=1e-5)


def torch_vgg(variables):
    """The small network in PyTorch, in float64: [N, 6, H, W] -> [N, 3]."""
    import torch

    params, statistics = variables["params"], variables["batch_stats"]
    layers = [(torch_layer(params[name], statistics[name]), torch.nn.ReLU()) for name in sorted(statistics)]
    pools = torch.nn.MaxPool2d(2), torch.nn.MaxPool2d(2)
    mean = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    return torch.nn.Sequential(
        *layers[0], *layers[1], pools[0], *layers[2], pools[1], *mean, torch_linear(params["head"])
    ).eval()


def test_it_is_pytorchs_with_the_same_parameters():
    torch = pytest.importorskip("torch", reason="needs PyTorch, for an independent implementation")
    model = VGG(**SMALL, dtype="float64")
    variables = random_variables(model)
    network = torch_vgg(variables)
    inputs = np.random.default_rng(1).random((4, 8, 10, 6))

    def forward():
        return network(torch.from_numpy(inputs).permute(0, 3, 1, 2)).detach().numpy()

    with jax.enable_x64(True):
        running = jax.jit(model.apply)(variables, inputs)
        batch, _ = jax.jit(lambda *args: model.apply(*args, train=True, mutable=["batch_stats"]))(variables, inputs)
    np.testing.assert_allclose(running, forward(), atol=TORCH_TOLERANCE * np.abs(running).max())
    network.train()
    np.testing.assert_allclose(batch, forward(), atol=TORCH_TOLERANCE * np.abs(batch).max())


def test_guided_backpropagation_is_captums():
    captum = import_captum()
    import torch

    model = VGG(**SMALL, dtype="float64")
    variables = random_variables(model)
    inputs, targets = np.random.default_rng(1).random((4, 8, 8, 6)), np.array([0, 1, 2, 1])
    explain = captum.GuidedBackprop(torch_vgg(variables)).attribute
    in_torch = torch.from_numpy(inputs).permute(0, 3, 1, 2).requires_grad_()
    expected = explain(in_torch, target=torch.from_numpy(targets)).permute(0, 2, 3, 1).detach().numpy()
    with jax.enable_x64(True):
        maps = guided_backpropagation(
            lambda activation: Partial(model.clone(activation=activation).apply, variables), inputs, targets
        )
    assert_close(maps[:, 0], expected, CAPTUM_TOLERANCE)


def test_layer_names_are_those_of_the_parameters():
    model = VGG(**SMALL)
    params = shapes_of(model)["params"]
    assert model.layer_names == ("layers_0", "layers_1", "layers_2", "head")
    assert sorted(params) == sorted(model.layer_names)
    assert model.gradcam_layer == "layers_2"


def test_lists_serve_as_well():
    assert hash(VGG(stages=[[4, 5], [6]], num_classes=3)) == hash(VGG(**SMALL))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"stages": ()}, "stages must be lists of channels"),
        ({"stages": ((64,), ())}, "stages must be lists of channels"),
        ({"stages": (64, 128)}, "stages must be lists of channels"),
        ({"stages": ((64,), (0,))}, "channels must be at least 1, not 0"),
        ({"num_classes": "10"}, "num_classes must be a whole number, not '10'"),
        ({"dtype": None}, "dtype is None, but must be one of float32, bfloat16, float64"),
    ],
)
def test_refused_attributes(attributes, message):
    with pytest.raises(InputError, match=message):
        VGG(**SMALL | attributes)


def test_images_that_are_too_small():
    with pytest.raises(InputError, match="images must have at least 32×32 pixels, not 28×28"):
        jax.eval_shape(VGG(VGG_11, 10).init, jax.random.key(0), jnp.zeros((1, 28, 28, 6)))
