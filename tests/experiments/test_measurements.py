"""The metrics, where the networks that they are taken of differ."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coda_jax import InputError, add_inverse, data, load_pretrained
from coda_jax.contributions import contribution_map, contributions, layer_contributions, upsampled_map
from coda_jax.metrics.localisation import compose_grids, draw_grids, localisation_score
from coda_jax.metrics.mosaics import difull, dipart
from coda_jax.metrics.pixel_removal import removal_curve
from coda_jax.networks.resnet import ResNet
from experiments import measurements
from experiments.measurements import (
    Run,
    completeness,
    localisation_of_layers,
    mosaics,
    of_images,
    pixel_removal,
)
from experiments.methods import METHODS, Method
from tests.attribution.networks import random_variables
from tests.training.problem import DATASET, HYBRID


@pytest.fixture(scope="module")
def hybrid():
    """A run of a hybrid that has learnt nothing, and the inputs and labels of its test images."""
    pixels = np.stack([example["image"] for example in DATASET.test]) / np.float32(255)
    inputs, labels = add_inverse(pixels), np.array([example["label"] for example in DATASET.test])
    variables = jax.jit(HYBRID.init)(jax.random.key(0), inputs)
    variables["params"]["trunk"]["BatchNorm_0"]["bias"] = np.ones(6, np.float32)  # Zeros have features of ones.
    logits = np.asarray(jax.jit(HYBRID.apply)(variables, inputs))
    return Run(Path(), {}, 0, HYBRID, variables, DATASET, logits, labels), inputs, labels


def test_a_hybrids_contributions_are_complete_though_zeros_have_another_logit_than_its_bias(hybrid):
    run, inputs, _ = hybrid
    of_zeros = jax.jit(HYBRID.apply)(run.variables, np.zeros_like(inputs[:1]))
    assert np.abs(of_zeros - HYBRID.logit_bias).min() > 1e-3
    residual = completeness(run).measure(METHODS["contributions"], lambda count: None)
    assert residual["percentile_95"] < 1e-4  # Exact but for float32's rounding.


def test_a_hybrids_pixels_are_removed_by_the_upsampled_map(hybrid):
    run, inputs, labels = hybrid
    ours = pixel_removal(run, 21).measure(METHODS["contributions"], lambda count: None)["least"]["curve"]
    maps = upsampled_map(contribution_map(contributions(HYBRID, run.variables, inputs, labels)), (4, 4))[:, 0]
    expected = removal_curve(HYBRID, run.variables, inputs, maps, labels, points=4)
    np.testing.assert_allclose(ours, np.mean(expected, axis=0), rtol=1e-5)  # float32, other batches.


def test_any_score_of_images_is_a_metric(hybrid, monkeypatch):
    run, inputs, labels = hybrid
    monkeypatch.setattr(measurements, "_IMAGES_AT_ONCE", 8)  # 21 images make two batches and a part of one.
    sums = Method(
        "sums", lambda model, variables, inputs, targets: inputs[:, None] + targets[:, :, None, None, None], {}
    )
    done, seen = [], []

    def score(method, rows, attributions):
        seen.append(attributions.sum((1, 2, 3, 4)))
        return rows.astype(float)

    results = of_images(run, 100, score).measure(sums, done.append)
    assert results == {"mean": 10.0, "median": 10.0, "percentile_95": 19.0}  # Of 0 to 20.
    assert done == [8, 8, 5]
    # float32 sums of 96 values around 0.5 or 1.5, in another order.
    np.testing.assert_allclose(jnp.concatenate(seen)[:21], inputs.sum((1, 2, 3)) + 96 * labels, rtol=1e-5)


@pytest.fixture(scope="module")
def digits():
    """A run of the network of digits, with the first 300 test images; and a grid of 2×2 of them."""
    model, variables, info = load_pretrained("digits")
    dataset = data.Dataset((), data.load("digits").test, info)
    run = Run(Path(), {}, 0, model, variables, dataset, np.empty(0), np.empty(0))
    labels = np.array([dataset.test[index]["label"] for index in range(300)])
    logits = np.asarray(jax.jit(model.apply)(variables, run.inputs(np.arange(300))))
    run = run._replace(logits=logits, labels=labels)
    return run, draw_grids(logits, labels, count=3, grid=(2, 2), seed=0)


def measure(measurement, method):
    assert measurement.refuse(METHODS[method]) is None
    done = []
    results = measurement.measure(METHODS[method], done.append)
    assert sum(done) == measurement.total
    return results


def test_difull_finds_who_attributes_to_cells_that_have_no_part(digits):
    run, _ = digits
    measurement = mosaics(run, 2, 3, difull)
    for method in ("contributions", "gradient", "integrated_gradients"):
        np.testing.assert_array_equal(measure(measurement, method)["scores"], np.ones((3, 4)))
    # Windows look over the border, and Grad-CAM's weights are means over all cells.
    for method in ("contributions_9", "occlusion_5", "gradcam"):
        scores = np.array(measure(measurement, method)["scores"])
        assert scores.min() > 0 and scores.max() < 1


def test_dipart_of_contributions_is_what_each_image_has_for_the_class(digits):
    run, grids = digits
    maps = [
        contribution_map(contributions(run.model, run.variables, run.inputs(images), [list(run.labels[images])] * 4))
        for images in grids
    ]
    positive = np.maximum(maps, 0).sum((3, 4))  # [grid, image, class]
    expected = np.diagonal(positive, axis1=1, axis2=2) / positive.sum(1)
    scores = measure(mosaics(run, 2, 3, dipart), "contributions")["scores"]
    np.testing.assert_allclose(scores, expected, rtol=1e-4)  # float32 sums.
    assert np.max(scores) < 1


def test_gradcam_weighs_all_cells_alike_in_both_controls(digits):
    scores = [measure(mosaics(digits[0], 2, 3, control), "gradcam")["scores"] for control in (difull, dipart)]
    np.testing.assert_allclose(*scores, rtol=1e-5)  # float32.


def test_localisation_of_the_layers_of_a_coda_net(digits):
    run, grids = digits
    measurement = localisation_of_layers(run, 2, 3)
    own, gradcam, product = (
        measure(measurement, method) for method in ("contributions", "gradcam", "input_x_gradient")
    )
    assert own["layers"] == ["layers_0", "layers_1", "layers_2"]
    assert own["middle"] == own["mean"][1]
    inputs = compose_grids(run.inputs(grids.ravel()), np.arange(12).reshape(3, 4), (2, 2))
    for place, mean in enumerate(own["mean"], start=1):
        attributions = layer_contributions(run.model, run.variables, inputs, run.labels[grids], layer=place)
        scores = localisation_score(contribution_map(attributions), (2, 2))
        np.testing.assert_allclose(mean, np.mean(scores), rtol=1e-4)  # float32.
    # The last layer's outputs are summed and no more: there the other methods find what contributions are.
    np.testing.assert_allclose([gradcam["mean"][-1], product["mean"][-1]], own["mean"][-1], rtol=1e-4)
    assert abs(product["mean"][0] - own["mean"][0]) > 0.01
    assert measurement.refuse(METHODS["occlusion_5"]) == "its settings are of pixels, of which layers have none"


def test_localisation_of_the_layers_of_a_residual_network(digits):
    model = ResNet(depth=8, num_classes=10)
    variables = random_variables(model, digits[0].inputs(np.arange(1)))
    variables["batch_stats"] = jax.tree.map(lambda array: np.abs(array) + 0.5, variables["batch_stats"])
    run = digits[0]._replace(model=model, variables=variables)
    measurement = localisation_of_layers(run, 2, 1)
    deeplift, product = (measure(measurement, method) for method in ("deeplift", "input_x_gradient"))
    assert deeplift["layers"] == product["layers"] == ["stem", "blocks_0", "blocks_1", "blocks_2"]
    # What follows the last block is linear, and what follows the others is not.
    np.testing.assert_allclose(deeplift["mean"][-1], product["mean"][-1], rtol=1e-4)  # float32.
    assert abs(deeplift["mean"][0] - product["mean"][0]) > 1e-3


def test_a_hybrid_has_no_layers_to_compare(hybrid):
    with pytest.raises(InputError, match="it is not defined for a hybrid after Trunk"):
        localisation_of_layers(hybrid[0], 2, 1)
