from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from coda_jax import CoDANet, HybridNet, InputError, add_inverse
from coda_jax.contributions import (
    contribution_map,
    contributions,
    layer_contributions,
    linear_weights,
    upsampled_map,
)
from coda_jax.metrics.localisation import compose_grids, localisation_score
from coda_jax.metrics.pixel_removal import removal_curve
from coda_jax.training.losses import binary_cross_entropy


class Trunk(nn.Module):
    """Features of either sign at half the resolution."""

    @nn.compact
    def __call__(self, inputs, train=False):
        features = nn.Conv(5, (3, 3), strides=2)(inputs)
        return nn.BatchNorm(use_running_average=not train)(features)


class Identity(nn.Module):
    def __call__(self, inputs, train=False):
        return inputs


HEAD = CoDANet(
    channels=(4, 3),
    ranks=(3, 2),
    kernel_sizes=(3, 1),
    strides=(2, 1),
    paddings=(1, 0),
    temperature=2.0,
    logit_bias=-1.0,
)
MODEL = HybridNet(Trunk(), HEAD)


@pytest.fixture(scope="module")
def network():
    """(variables, inputs, logits) of random parameters, of statistics of some batch, and of five images of 8×8."""
    inputs = np.asarray(add_inverse(np.random.default_rng(1).uniform(size=(5, 8, 8, 3)).astype(np.float32)))
    variables = jax.jit(MODEL.init)(jax.random.key(0), inputs)
    variables["batch_stats"]["trunk"]["BatchNorm_0"] = {"mean": np.full(5, 0.1), "var": np.full(5, 0.5)}
    return variables, inputs, jax.jit(MODEL.apply)(variables, inputs)


@pytest.mark.precision
def test_contributions_are_the_dense_product_times_the_features(network):
    variables, inputs, _ = network

    @jax.jit
    def features_and_matrix(variables, inputs):
        _, linear_map = MODEL.apply(variables, inputs, method="decompose")
        return MODEL.apply(variables, inputs, method="features"), linear_map.dense()

    features, dense = map(np.asarray, features_and_matrix(variables, inputs))  # The matrix is [N, K, Hf, Wf, Cf].
    assert features.min() < 0 < features.max()
    close = {"rtol": 1e-4, "atol": 1e-6}  # float32, sums of some ten products in another order.
    np.testing.assert_allclose(linear_weights(MODEL, variables, inputs, "all"), dense, **close)
    np.testing.assert_allclose(contributions(MODEL, variables, inputs, "all"), dense * features[:, None], **close)


@pytest.mark.precision
@pytest.mark.parametrize(("layer", "shape"), [(0, (4, 4, 5)), (1, (2, 2, 4)), (2, (2, 2, 3))])
def test_contributions_sum_to_the_logits_at_every_layer_of_the_head(network, layer, shape):
    variables, inputs, logits = network
    at_layer = layer_contributions(MODEL, variables, inputs, "all", layer, chunk_size=2)
    assert at_layer.shape == (5, 3, *shape)
    np.testing.assert_allclose(
        np.sum(at_layer, (2, 3, 4)) - 1.0, logits, rtol=1e-5
    )  # The promise; rounding is below it.


def test_on_a_trunk_that_does_nothing_it_is_the_head(network):
    _, inputs, _ = network
    alone = jax.jit(HEAD.init)(jax.random.key(2), inputs)
    model, variables = HybridNet(Identity(), HEAD), {"params": {"head": alone["params"]}}
    np.testing.assert_array_equal(contributions(model, variables, inputs), contributions(HEAD, alone, inputs))


def test_with_gram(network):
    variables, inputs, logits = network
    kept = jax.jit(MODEL.with_gram)(variables)
    apply = jax.jit(MODEL.apply)
    np.testing.assert_allclose(apply(kept, inputs), logits, rtol=1e-5)
    # Products of other parameters make other logits, so they are used.
    zeros = {**kept, "gram": jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), kept["gram"])}
    assert not np.allclose(apply(zeros, inputs), logits, rtol=1e-2)


def test_statistics_are_those_of_the_batch_in_training(network):
    variables, inputs, logits = network
    apply = jax.jit(partial(MODEL.apply, train=True, mutable=["batch_stats"]))
    in_training, updated = apply(variables, inputs)
    assert not np.allclose(in_training, logits, rtol=1e-2)
    assert updated["batch_stats"].keys() == {"trunk"}


def test_the_gradient_reaches_the_trunk(network):
    variables, inputs, _ = network
    labels = np.array([0, 1, 2, 0, 1])

    @jax.jit
    @jax.value_and_grad
    def loss_and_gradients(params):
        return jnp.mean(binary_cross_entropy(MODEL.apply({**variables, "params": params}, inputs), labels))

    params = jax.tree.map(np.asarray, variables["params"])
    gradients = jax.tree.map(np.asarray, loss_and_gradients(params)[1])
    # Along the gradient by the trunk alone, differences tell the slope; the step is one at which float32's rounding and
    # the curvature both stay below a percent.
    step, squared = 1e-2, sum(float(np.sum(leaf**2)) for leaf in jax.tree.leaves(gradients["trunk"]))

    def moved(by):
        trunk = jax.tree.map(lambda p, g: p + np.float32(by / squared**0.5) * g, params["trunk"], gradients["trunk"])
        return {**params, "trunk": trunk}

    after, before = (float(loss_and_gradients(moved(by))[0]) for by in (step, -step))
    slope = (after - before) / (2 * step)
    np.testing.assert_allclose(slope, squared**0.5, rtol=2e-2)


def test_upsampling_by_a_whole_number_is_bilinear_interpolation():
    maps = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    ours = upsampled_map(maps, (12, 10))
    np.testing.assert_allclose(
        ours, np.asarray(jax.image.resize(maps, (2, 3, 12, 10), "bilinear")) / 6, atol=1e-6
    )  # float32.


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (32, 5), (4, 6)])
def test_upsampling_keeps_what_every_feature_contributes(size):
    one_each = np.eye(24, dtype=np.float32).reshape(1, 24, 4, 6)
    spread = np.asarray(upsampled_map(one_each, size))
    assert spread.shape == (1, 24, *size) and spread.min() >= 0
    np.testing.assert_allclose(spread.sum((2, 3)), 1, rtol=1e-6)  # float32.


def test_maps_of_the_image_stay_as_they_are():
    maps = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(upsampled_map(maps, (4, 5)), maps)


def test_the_metrics_take_upsampled_maps(network):
    variables, inputs, _ = network
    grids = compose_grids(inputs, np.array([[0, 1, 2, 3]]), (2, 2))
    maps = contribution_map(contributions(MODEL, variables, grids, np.array([[0, 1, 2, 0]])))
    assert maps.shape == (1, 4, 8, 8)
    # Half of a pixel's worth of each feature beside a border reaches over it, so that no score is far from the other.
    on_image, on_features = (localisation_score(of, (2, 2)) for of in (upsampled_map(maps, (16, 16)), maps))
    np.testing.assert_allclose(on_image, on_features, atol=0.1)
    of_predicted = upsampled_map(contribution_map(contributions(MODEL, variables, inputs)), (8, 8))[:, 0]
    curve = removal_curve(MODEL, variables, inputs, of_predicted, np.zeros(5, int), points=4)
    assert curve.shape == (5, 5) and np.ptp(curve) > 0


def test_under_jit_and_eval_shape(network):
    variables, inputs, _ = network
    explain = partial(contributions, MODEL)
    expected = explain(variables, inputs)
    np.testing.assert_allclose(jax.jit(explain)(variables, inputs), expected, rtol=1e-4, atol=1e-6)
    assert jax.eval_shape(explain, variables, inputs).shape == (5, 1, 4, 4, 5)


def test_bad_arguments(network):
    variables, inputs, _ = network
    with pytest.raises(InputError, match="trunk must be a Flax linen module, not 3"):
        HybridNet(3, HEAD)
    with pytest.raises(InputError, match="head must be a CoDANet, not a Trunk"):
        HybridNet(Trunk(), Trunk())
    with pytest.raises(InputError, match="layer must be at most 2, not 3"):
        layer_contributions(MODEL, variables, inputs, layer=3)
    for wrong in ({"params": variables["params"]}, {"params": {}}, {**variables, "params": {"head": {}}}):
        with pytest.raises(InputError, match="^model cannot be applied to these variables and inputs: ") as refused:
            contributions(MODEL, wrong, inputs)
        assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match=r"features must be floating-point \[N, H, W, C\], not float32 \[5, 6\]"):
        HybridNet(nn.Sequential([lambda inputs, train: inputs[:, 0, 0]]), HEAD).init(jax.random.key(0), inputs)
    for maps, size, message in (
        (np.zeros((2, 3, 4)), (8, 8), r"maps must be floating-point \[N, T, h, w\], not float32 \[2, 3, 4\]"),
        (np.zeros((1, 1, 2, 2)), 8, r"size must be \(H, W\)"),
        (np.zeros((1, 1, 2, 2)), (8, 0), "size must be at least 1, not 0"),
    ):
        with pytest.raises(InputError, match=message):
            upsampled_map(maps, size)
