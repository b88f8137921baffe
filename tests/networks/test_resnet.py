import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coda_jax import InputError
from coda_jax.networks.resnet import Block, ResNet, ResNetTrunk
from tests.networks.networks import TORCH_TOLERANCE, random_variables, shapes_of, torch_layer, torch_linear


@pytest.mark.parametrize(
    ("depth", "published"),
    # Table 6 of the paper.
    [(20, "0.27M"), (32, "0.46M"), (44, "0.66M"), (56, "0.85M"), (110, "1.7M")],
)
def test_number_of_parameters(depth, published):
    params = shapes_of(ResNet(depth, 10))["params"]
    number = sum(leaf.size for leaf in jax.tree.leaves(params))
    of_colours = number - 3 * 3 * 3 * 16  # Inputs here have three channels more.
    digits = len(published) - len("0.M") if depth < 110 else 1
    assert f"{of_colours / 1e6:.{digits}f}M" == published


def test_a_block_adds_its_input():
    x = jnp.arange(12.0).reshape(1, 2, 3, 2) - 6
    block = Block(4, stride=2, dtype=jnp.float32)
    shapes = jax.eval_shape(lambda key: block.init(key, x, False), jax.random.key(0))
    variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)  # So that there is no residual.
    # Every second pixel of the first row, with two channels of zeros, after the ReLU.
    np.testing.assert_array_equal(block.apply(variables, x, False), [[[[0, 0, 0, 0], [0, 0, 0, 0]]]])
    np.testing.assert_array_equal(block.apply(variables, x + 8, False), [[[[2, 3, 0, 0], [6, 7, 0, 0]]]])


def test_it_is_pytorchs_with_the_same_parameters():
    torch = pytest.importorskip("torch", reason="needs PyTorch, for an independent implementation")
    model = ResNet(depth=14, num_classes=3, dtype="float64")
    variables = random_variables(model)
    params, statistics = variables["params"], variables["batch_stats"]
    inputs = np.random.default_rng(1).random((4, 9, 8, 6))  # An odd height.

    def forward(train):
        def layer(path, stride=1):
            of_params, of_statistics = params, statistics
            for name in path:
                of_params, of_statistics = of_params[name], of_statistics[name]
            return torch_layer(of_params, of_statistics, stride).train(train)

        x = torch.from_numpy(inputs).permute(0, 3, 1, 2)
        x = layer(["stem"])(x).relu()
        for block in range(6):
            stride = 2 if block in (2, 4) else 1
            y = layer([f"blocks_{block}", "NormalisedConvolution_0"], stride)(x).relu()
            y = layer([f"blocks_{block}", "NormalisedConvolution_1"])(y)
            zeros = torch.zeros(4, y.shape[1] - x.shape[1], *y.shape[2:])
            x = (y + torch.cat([torch.nn.functional.avg_pool2d(x, 1, stride), zeros], 1)).relu()
        return torch_linear(params["head"])(x.mean((2, 3))).detach().numpy()

    with jax.enable_x64(True):
        running = jax.jit(model.apply)(variables, inputs)
        batch, _ = jax.jit(lambda *args: model.apply(*args, train=True, mutable=["batch_stats"]))(variables, inputs)
    np.testing.assert_allclose(running, forward(False), atol=TORCH_TOLERANCE * np.abs(running).max())
    np.testing.assert_allclose(batch, forward(True), atol=TORCH_TOLERANCE * np.abs(batch).max())


def test_layer_names_are_those_of_the_parameters():
    model = ResNet(depth=14, num_classes=3)
    params = shapes_of(model)["params"]
    assert sorted(model.layer_names) == sorted(params)
    assert model.layer_names[:2] == ("stem", "blocks_0") and model.layer_names[-2:] == ("blocks_5", "head")
    assert model.gradcam_layer == "blocks_5"


def test_logits_are_float32_at_least():
    model = ResNet(depth=8, num_classes=3, dtype="bfloat16")
    inputs = jnp.zeros((1, 8, 8, 6))
    assert jax.eval_shape(lambda key: model.init_with_output(key, inputs), jax.random.key(0))[0].dtype == jnp.float32


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"depth": 18}, r"depth must be 6n \+ 2, such as 20 or 56, not 18"),
        ({"depth": 2}, r"depth must be 6n \+ 2, such as 20 or 56, not 2"),
        ({"depth": 20.0}, "depth must be a whole number, not 20.0"),
        ({"num_classes": 0}, "num_classes must be at least 1, not 0"),
        ({"dtype": "int8"}, "dtype is 'int8', but must be one of float32, bfloat16, float64"),
    ],
)
def test_refused_attributes(attributes, message):
    with pytest.raises(InputError, match=message):
        ResNet(**{"depth": 20, "num_classes": 10} | attributes)


def test_refused_inputs():
    with pytest.raises(InputError, match="must have 6 channels, not 3: encode images with coda_jax.add_inverse"):
        jax.eval_shape(ResNet(8, 10).init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


@pytest.mark.parametrize(("blocks", "shape"), [(0, (8, 8, 16)), (1, (8, 8, 16)), (2, (4, 4, 32)), (3, (2, 2, 64))])
def test_a_trunk_is_the_first_layers(blocks, shape):
    model, trunk = ResNet(8, 3), ResNetTrunk(8, blocks)
    variables, inputs = random_variables(model), np.random.default_rng(1).random((2, 8, 8, 6), np.float32)
    of_trunk = {
        kind: {name: of_layer for name, of_layer in tree.items() if name in model.layer_names[: 1 + blocks]}
        for kind, tree in variables.items()
    }
    assert jax.tree.structure(shapes_of(trunk)) == jax.tree.structure(of_trunk)
    features = jax.jit(trunk.apply)(of_trunk, inputs)
    assert features.shape == (2, *shape)
    _, state = jax.jit(lambda *args: model.apply(*args, capture_intermediates=True))(variables, inputs)
    expected = state["intermediates"][model.layer_names[blocks]]["__call__"][0]
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)  # float32, compiled in another way.


def test_trunks_that_do_not_exist():
    with pytest.raises(InputError, match="blocks must be at most 9, of which a ResNet of depth 20 has no more"):
        ResNetTrunk(20, 10)
    with pytest.raises(InputError, match="depth must be 6n"):
        ResNetTrunk(19, 0)
