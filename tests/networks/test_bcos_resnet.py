from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from coda_jax import InputError
from coda_jax.attribution.gradcam import gradcam
from coda_jax.contributions import contributions, explain, layer_contributions, linear_weights
from coda_jax.networks import bcos_resnet
from coda_jax.networks.bcos_resnet import BcosResNet
from coda_jax.training.configuration import Training
from coda_jax.training.loop import train
from coda_jax.training.metrics_log import read_metrics
from tests.networks.networks import shapes_of
from tests.training.problem import DATASET

SMALL = BcosResNet(blocks=(1, 1), num_classes=3, width=4, small_images=True, temperature=0.5)
BOTTLENECK = BcosResNet(blocks=(1,), num_classes=3, width=4, bottleneck_width=2, b=1.5, maxout=2, logit_bias=-1.0)


def variables_of(model):
    """Random variables at which the sums of contributions are of order 1 or 10, as after training."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "variance":
            return rng.uniform(0.01, 0.1, leaf.shape).astype(np.float32)
        return rng.normal(size=leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes_of(model))


@pytest.fixture(scope="module", params=[SMALL, BOTTLENECK], ids=["small images", "bottleneck"])
def network(request):
    """(model, variables, inputs, logits, what `explained` returns) of a small random network and three images."""
    model, variables = request.param, variables_of(request.param)
    images = np.random.default_rng(1).uniform(size=(3, 7, 6, 3)).astype(np.float32)
    inputs = np.concatenate([images, 1 - images], axis=-1)

    @jax.jit
    def explained(variables, inputs):
        """The last layer's outputs; the matrix; what its map makes of the inputs; contributions of all layers."""
        _, linear_map = model.apply(variables, inputs, method="decompose")
        cotangents, of_layers = jnp.broadcast_to(jnp.eye(3), (3, 3, 3)), []
        for linear, layer_inputs in zip(reversed(linear_map.layers), reversed(linear_map.inputs), strict=True):
            cotangents = linear.transpose(cotangents)
            of_layers.insert(0, cotangents * layer_inputs[:, None])
        explanation = linear_map.inputs[-1], linear_map.dense(), linear_map.apply(inputs), of_layers
        return model.apply(variables, inputs), explanation

    logits, explanation = jax.tree.map(np.asarray, explained(variables, inputs))
    return model, variables, inputs, logits, explanation


@pytest.mark.parametrize(
    ("depth", "published"),
    # In millions, from the list of trained networks of the authors' code.
    [(18, "11.69"), (34, "21.80"), (50, "25.54"), (101, "44.50"), (152, "60.13")],
)
def test_number_of_parameters(depth, published):
    model = BcosResNet(**getattr(bcos_resnet, f"RESNET_{depth}"), num_classes=1000)
    number = sum(leaf.size for leaf in jax.tree.leaves(shapes_of(model)["params"]))
    assert (model.title, f"{number / 1e6:.2f}") == (f"B-cos ResNet-{depth}", published)


@pytest.mark.parametrize(("depth", "number"), [(20, 272_112), (56, 854_064)])
def test_number_of_parameters_of_networks_for_cifar(depth, number):
    # For the kernels k·k·C·K and for norms K: 880 first, 640 last, n blocks of 2·2,320, then 2·9,248 and 2·36,928, of
    # which two begin with 4,640 and 18,496 instead, and have shortcuts of 544 and 2,112.
    model = BcosResNet(**getattr(bcos_resnet, f"CIFAR_RESNET_{depth}"), num_classes=10)
    assert model.title == f"B-cos ResNet-{depth}"
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes_of(model)["params"])) == number


def test_contributions_sum_to_the_logits_at_every_layer(network):
    model, variables, inputs, logits, (*_, of_layers) = network
    assert np.abs(logits - model.logit_bias).max() > 0.1
    assert [maps.shape[-1] for maps in of_layers] == [6, *model.channels]
    for maps in of_layers:
        np.testing.assert_allclose(maps.sum((2, 3, 4)) + model.logit_bias, logits, rtol=1e-5, atol=1e-6)
    # Programs of one and of all layers may sum in another order.
    of_last = layer_contributions(model, variables, inputs, "all", len(model.channels))
    np.testing.assert_allclose(of_last, of_layers[-1], rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match=f"layer must be at most {len(model.channels)}"):
        layer_contributions(model, variables, inputs, "all", len(model.channels) + 1)


def test_logits_are_means_over_positions(network):
    model, _, _, logits, (last_outputs, *_) = network
    means = np.mean(last_outputs, axis=(1, 2))
    np.testing.assert_allclose(logits, means / model.temperature + model.logit_bias, rtol=1e-5, atol=1e-6)


def test_weights_are_rows_of_the_product_of_matrices(network):
    model, variables, inputs, logits, (_, matrix, applied, _) = network
    # Sums of some thousand float32 products.
    close = {"rtol": 1e-4, "atol": 1e-5 * np.abs(matrix).max()}
    np.testing.assert_allclose(linear_weights(model, variables, inputs, "all"), matrix, **close)
    np.testing.assert_allclose(contributions(model, variables, inputs, "all"), matrix * inputs[:, None], **close)
    np.testing.assert_allclose(applied + model.logit_bias, logits, rtol=1e-5, atol=1e-6)


def test_an_explanation_in_chunks_of_the_most_probable_classes(network):
    model, variables, inputs, logits, _ = network
    explanation = explain(model, variables, inputs, top=2, chunk_size=2)
    np.testing.assert_array_equal(explanation.targets, np.argsort(-logits)[:, :2])
    everything = contributions(model, variables, inputs, "all")
    expected = np.take_along_axis(
        np.asarray(everything), np.asarray(explanation.targets)[..., None, None, None], axis=1
    )
    np.testing.assert_allclose(explanation.contributions, expected, rtol=1e-4, atol=1e-6)


def test_maps_are_not_input_times_gradient(network):
    model, variables, inputs, _, _ = network
    gradient = jax.jit(jax.grad(lambda inputs: jnp.sum(model.apply(variables, inputs)[:, 0])))(inputs)
    ours = np.asarray(contributions(model, variables, inputs, "all"))[:, 0]
    # A gradient differentiates the cosines as well; rounding would give 1e-6.
    assert np.linalg.norm(ours - gradient * inputs) > 0.1 * np.linalg.norm(ours)


def test_layer_names_are_those_of_the_parameters():
    model = BOTTLENECK.clone(blocks=(2, 1))
    assert sorted(model.layer_names) == sorted(shapes_of(model)["params"])
    assert model.layer_names == ("conv1", "layer1_0", "layer1_1", "layer2_0", "fc")


def test_channels_are_those_of_the_layers():
    model, inputs = BOTTLENECK.clone(blocks=(2, 1)), jnp.zeros((1, 8, 8, 6))
    _, linear_map = jax.eval_shape(partial(model.apply, method="decompose"), shapes_of(model), inputs)
    assert tuple(layer_inputs.shape[-1] for layer_inputs in linear_map.inputs) == (6, *model.channels)
    assert model.channels == (4, 4, 16, 16, 32, 3)


def test_gradcam_of_the_last_layer_is_its_positive_contributions(network):
    model, variables, inputs, _, (*_, of_layers) = network
    maps = gradcam(Partial(model.apply, variables), inputs, np.zeros((3, 1), int), layer=model.gradcam_layer)
    ours = np.maximum(of_layers[-1][:, :1].sum(-1), 0)
    expected = jax.image.resize(ours, (3, 1, 7, 6), "bilinear")
    np.testing.assert_allclose(np.sum(maps, axis=-1), expected, rtol=1e-4, atol=1e-6)


def test_it_trains(tmp_path):
    model = BcosResNet(blocks=[1], num_classes=2, width=8, small_images=True, temperature=0.2)
    training = Training(batch_size=8, num_steps=60, learning_rate=1e-2, seed=0, flip=True, log_every=10)
    state = train(model, DATASET, training, tmp_path)
    losses = [record["loss"] for record in read_metrics(tmp_path / "metrics.jsonl") if "loss" in record]
    assert losses[-1] < losses[0] / 2
    first = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 4, 4, 6)))
    assert jax.tree.structure(state.variables) == jax.tree.structure(first)
    assert all(np.all(leaf != 1) for leaf in jax.tree.leaves(state.batch_stats))


def test_a_copy_for_other_classes_has_their_bias():
    assert SMALL.clone(num_classes=5) == BcosResNet((1, 1), 5, width=4, small_images=True, temperature=0.5)
    assert SMALL.clone(num_classes=5, logit_bias=0.5).logit_bias == 0.5
    assert BOTTLENECK.clone(num_classes=5).logit_bias == -1  # Not the default of three classes either.
    assert SMALL.clone(width=8).logit_bias == -np.log(2)


def test_in_float64_and_bfloat16():
    inputs = jnp.ones((1, 8, 8, 6)) / 2
    for dtype, of_logits in (("bfloat16", jnp.float32), ("float64", jnp.float64)):
        with jax.enable_x64(dtype == "float64"):
            model = SMALL.clone(dtype=dtype)
            logits, linear_map = jax.eval_shape(partial(model.apply, method="decompose"), variables_of(model), inputs)
        assert (logits.dtype, linear_map.inputs[1].dtype) == (of_logits, dtype)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"blocks": ()}, r"blocks must be whole numbers of at least 1, one a stage, not \(\)"),
        ({"blocks": 3}, "blocks must be whole numbers of at least 1, one a stage, not 3"),
        ({"blocks": (1, 0)}, "blocks must be at least 1, not 0"),
        ({"num_classes": 1}, "num_classes must be at least 2, not 1"),
        ({"width": 0}, "width must be at least 1, not 0"),
        ({"bottleneck_width": 0}, "bottleneck_width must be at least 1, not 0"),
        ({"maxout": 0}, "maxout must be at least 1, not 0"),
        ({"b": 0.5}, "b must be at least 1, not 0.5"),
        ({"temperature": 0}, "temperature must be above 0, not 0"),
        ({"logit_bias": "none"}, "logit_bias must be a number, not 'none'"),
        ({"dtype": "int8"}, "dtype is 'int8', but must be one of float32, bfloat16, float64"),
    ],
)
def test_refused_attributes(attributes, message):
    with pytest.raises(InputError, match=message):
        BcosResNet(**{"blocks": (1,), "num_classes": 10} | attributes)


def test_refused_inputs_and_variables():
    with pytest.raises(InputError, match="must have 6 channels, not 3: encode images with coda_jax.add_inverse"):
        jax.eval_shape(SMALL.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    with pytest.raises(InputError, match="variables must have .* of shape .*, not"):
        contributions(SMALL, variables_of(BOTTLENECK), np.zeros((1, 8, 8, 6), np.float32))
