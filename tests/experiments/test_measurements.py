"""The metrics, where the networks that they are taken of differ."""

from pathlib import Path

import jax
import numpy as np
import pytest

from coda_jax import add_inverse
from coda_jax.contributions import contribution_map, contributions, upsampled_map
from coda_jax.metrics.pixel_removal import removal_curve
from experiments.measurements import Run, completeness, pixel_removal
from experiments.methods import METHODS
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
