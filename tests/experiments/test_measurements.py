"""The metrics, where the networks that they are taken of differ."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coda_jax import add_inverse
from coda_jax.contributions import contribution_map, contributions, upsampled_map
from coda_jax.metrics.pixel_removal import removal_curve
from experiments import measurements
from experiments.measurements import Run, completeness, of_images, pixel_removal
from experiments.methods import METHODS, Method
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
