"""The methods that networks are compared by, where they are more than a library function with settings."""

import jax
import numpy as np

from coda_jax import CoDANet
from coda_jax.contributions import contribution_map, contributions, upsampled_map
from experiments.methods import METHODS, explains_itself, of_features, refusal
from tests.training.problem import HYBRID, NORMALISED


def test_averaged_contributions_are_means_over_the_part_of_the_window_that_is_in_the_image():
    model = CoDANet(channels=(4, 3), ranks=(4, 4), kernel_sizes=(3, 1), strides=(1, 1), paddings=(1, 0))
    inputs = np.random.default_rng(0).uniform(size=(2, 11, 12, 6)).astype(np.float32)
    variables, targets = jax.jit(model.init)(jax.random.key(1), inputs), np.array([[0, 2], [1, 1]])
    maps = np.asarray(contributions(model, variables, inputs, targets))
    averaged = np.asarray(METHODS["contributions_9"].explain(model, variables, inputs, targets))
    assert averaged.shape == maps.shape
    for row, column in ((0, 0), (5, 6), (10, 3)):
        window = maps[:, :, max(row - 4, 0) : row + 5, max(column - 4, 0) : column + 5]
        # Sums of up to 81 float32 numbers of both signs, in another order.
        np.testing.assert_allclose(averaged[:, :, row, column], window.mean((2, 3)), atol=1e-6 * np.abs(maps).max())


def test_a_hybrids_contributions_are_upsampled_and_its_head_has_the_layer_for_gradcam():
    inputs = np.random.default_rng(0).uniform(size=(2, 8, 8, 6)).astype(np.float32)
    targets = np.array([[0, 1], [1, 0]])
    variables = jax.jit(HYBRID.init)(jax.random.key(1), inputs)
    maps = METHODS["contributions"].explain(HYBRID, variables, inputs, targets)
    features = contribution_map(contributions(HYBRID, variables, inputs, targets))
    assert features.shape == (2, 2, 4, 4)
    np.testing.assert_allclose(maps[..., 0], upsampled_map(features, (8, 8)), rtol=1e-5, atol=1e-6)  # float32.
    assert METHODS["contributions_9"].explain(HYBRID, variables, inputs, targets).shape == (2, 2, 8, 8, 1)
    assert METHODS["gradcam"].explain(HYBRID, variables, inputs, targets).shape == (2, 2, 8, 8, 6)


def test_which_networks_explain_themselves_and_by_what():
    assert explains_itself(HYBRID) and explains_itself(HYBRID.head) and not explains_itself(NORMALISED)
    inputs = np.zeros((2, 8, 8, 6))
    assert not of_features(np.zeros((2, 1, 8, 8, 6)), inputs)
    assert of_features(np.zeros((2, 1, 8, 8, 16)), inputs) and of_features(np.zeros((2, 1, 4, 4, 6)), inputs)


def test_windows_larger_than_the_images_are_refused_on_grids_too():
    grid, targets = np.zeros((1, 24, 24, 6), np.float32), np.zeros((1, 1), int)
    variables = jax.eval_shape(HYBRID.init, jax.random.key(0), grid)
    for name in ("occlusion_9", "contributions_9"):
        assert refusal(name, HYBRID, variables, grid, targets, 8) == (
            "its window of 9×9 pixels is larger than the images, of 8×8"
        )
        assert refusal(name, HYBRID, variables, grid, targets, 9) is None
