"""The post-hoc methods that CoDA-Nets refuse, or that need a layer, on conventional networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from coda_jax.attribution.deeplift import deeplift
from coda_jax.attribution.gradcam import gradcam
from coda_jax.networks.resnet import ResNet
from coda_jax.networks.vgg import VGG
from tests.networks.networks import random_variables

MODELS = [ResNet(depth=8, num_classes=3, dtype="float64"), VGG(((4, 5), (6,)), num_classes=3, dtype="float64")]
INPUTS, BASELINE, TARGETS = np.split(np.random.default_rng(0).random((3, 8, 8, 6)), [2]) + [np.array([[0, 1], [2, 0]])]


@pytest.mark.parametrize("model", MODELS, ids=["ResNet", "VGG"])
def test_deeplift_is_complete(model):
    with jax.enable_x64(True):
        logits_fn = Partial(model.apply, random_variables(model))

        def make_logits_fn(activation, max_pool):
            pooling = {"max_pool": max_pool} if isinstance(model, VGG) else {}
            return Partial(model.clone(activation=activation, **pooling).apply, *logits_fn.args)

        maps = np.asarray(deeplift(make_logits_fn, INPUTS, TARGETS, baseline=BASELINE[0]))
        difference = jax.jit(logits_fn)(INPUTS) - jax.jit(logits_fn)(BASELINE)
    expected = np.take_along_axis(np.asarray(difference), TARGETS, axis=1)
    # Rounding of float64.
    np.testing.assert_allclose(maps.sum((2, 3, 4)), expected, atol=1e-12 * np.abs(expected).max())


def test_gradcam_of_a_resnet_is_its_class_activation_map():
    # With a linear layer of the mean over positions Grad-CAM is the map of Zhou et al. (2015, arXiv 1512.04150).
    model = MODELS[0]
    with jax.enable_x64(True):
        variables = random_variables(model)
        maps = np.asarray(gradcam(Partial(model.apply, variables), INPUTS, TARGETS, layer=model.gradcam_layer))
        _, kept = model.apply(variables, INPUTS, capture_intermediates=True)
        (features,) = kept["intermediates"][model.gradcam_layer]["__call__"]
        weights = variables["params"]["head"]["kernel"][:, TARGETS]  # [64, N, T]
        sums = jnp.einsum("nhwk,knt->nthw", features, weights) / features[0, :, :, 0].size
        expected = jax.image.resize(jax.nn.relu(sums), (2, 2, 8, 8), "bilinear")
    assert maps.max() > 0
    np.testing.assert_allclose(maps.sum(-1), expected, rtol=1e-10, atol=1e-12)  # Rounding of float64.
