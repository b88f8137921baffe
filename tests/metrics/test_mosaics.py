import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from coda_jax import CoDANet, InputError
from coda_jax.attribution import gradcam, input_x_gradient, occlusion
from coda_jax.attribution.layers import split
from coda_jax.contributions import contribution_map, contributions
from coda_jax.metrics.localisation import join_cells, localisation_score
from coda_jax.metrics.mosaics import cell_by_cell, cut_cells, difull, dipart
from coda_jax.networks.resnet import ResNet
from tests.attribution.networks import random_variables

# One row of two cells, of two pixels each, with two channels.
GRID = np.array([[1, 0], [2, 1], [0, 4], [3, 5]], np.float32).reshape(1, 1, 4, 2)
WIDE = (1, 2)


def linear(images):
    """Two logits: the sum of each channel, of which the class is a detector."""
    return images.sum((1, 2))


def neighbours(images):
    """The sum over positions of what each sees: itself and the pixels beside it, zeros outside of the image."""
    padded = jnp.pad(images, ((0, 0), (0, 0), (1, 1), (0, 0)))
    return (padded[:, :, :-2] + padded[:, :, 1:-1] + padded[:, :, 2:]).sum((1, 2))


def score(attributions, grid=WIDE):
    return np.asarray(localisation_score(contribution_map(attributions), grid))


def test_cells_by_hand():
    grids = np.arange(12.0).reshape(1, 4, 3, 1)
    cells = cut_cells(grids, (2, 3))
    assert cells.shape == (6, 2, 1, 1)
    np.testing.assert_array_equal(cells[:, :, 0, 0], [[0, 3], [1, 4], [2, 5], [6, 9], [7, 10], [8, 11]])
    np.testing.assert_array_equal(join_cells(cells, (2, 3)), grids)


def test_logits_by_hand():
    # Class 0 and 1 of the left cell, and of the right one.
    np.testing.assert_array_equal(difull(linear, WIDE)(GRID), [[3, 1, 3, 9]])
    np.testing.assert_array_equal(dipart(linear, WIDE)(GRID), [[3, 5]])


def test_a_linear_network_by_hand():
    # Class 0 is in the left cell, class 1 in the right one; both have something of the other.
    targets = [[0, 1]]
    whole = input_x_gradient(linear, GRID, targets)
    np.testing.assert_allclose(score(whole), [[3 / 6, 9 / 10]])
    # What the left cell has of class 1 does reach the pooling, and so it does count in DiPart.
    np.testing.assert_allclose(score(input_x_gradient(dipart(linear, WIDE), GRID, targets)), [[3 / 6, 9 / 10]])
    apart = input_x_gradient(difull(linear, WIDE), GRID, [[0, 3]])
    np.testing.assert_array_equal(contribution_map(apart)[0, :, 0], [[1, 2, 0, 0], [0, 0, 4, 5]])
    np.testing.assert_array_equal(score(apart), [[1, 1]])


def test_a_uniform_map_has_its_share_in_every_setting():
    def explain(logits_fn, inputs, targets):
        logits_fn(inputs)
        return np.ones((len(targets), len(targets[0]), *inputs.shape[1:]))

    for network, targets in ((linear, [[0, 1]]), (dipart(linear, WIDE), [[0, 1]]), (difull(linear, WIDE), [[0, 3]])):
        np.testing.assert_array_equal(score(explain(network, GRID, targets)), [[0.5, 0.5]])


def test_neighbours_at_a_border_by_hand():
    # In the grid the inner pixels are seen from three positions, of which one is in the other cell; apart from two.
    whole = contribution_map(input_x_gradient(neighbours, GRID, [[0, 1]]))[0, :, 0]
    np.testing.assert_array_equal(whole, [[2, 6, 0, 6], [0, 3, 12, 10]])
    apart = contribution_map(input_x_gradient(dipart(neighbours, WIDE), GRID, [[0, 1]]))[0, :, 0]
    np.testing.assert_array_equal(apart, [[1, 2, 0, 3], [0, 1, 4, 5]])  # Twice, times a half for the mean.


def test_occlusion_looks_over_the_border_by_hand():
    # Windows of 3×3 pixels at columns 0 and 1. Each covers one cell, and the half of the other beside it.
    tall = np.pad(GRID, ((0, 0), (1, 1), (0, 0), (0, 0)))
    drops = occlusion(difull(linear, WIDE), tall, [[0, 3]], window=3, stride=1)
    rows = [[[3, 2.5, 2.5, 2]] * 3, [[4, 6.5, 6.5, 9]] * 3]
    np.testing.assert_allclose(contribution_map(drops)[0], rows, rtol=1e-6)  # Rounding.
    np.testing.assert_allclose(score(drops), [[5.5 / 10, 15.5 / 26]], rtol=1e-6)


def test_gradcam_cannot_tell_cells_apart_by_hand():
    def head(features):
        return 2 * features.mean((1, 2))

    features = cell_by_cell(lambda cells: cells, WIDE)
    for network, targets in ((difull(head, WIDE), [[0, 3]]), (dipart(head, WIDE), [[0, 1]])):
        maps = gradcam(network, GRID, targets, features=features)
        # The gradient is averaged over both cells, and so the features of both count: channel 0, and channel 1.
        np.testing.assert_allclose(contribution_map(maps)[0, :, 0], np.array([[1, 2, 0, 3], [0, 1, 4, 5]]) / 2)
        np.testing.assert_allclose(score(maps), [[3 / 6, 9 / 10]], rtol=1e-6)


@pytest.fixture(scope="module")
def coda_net():
    settings = {"channels": (4, 3), "ranks": (2, 4), "kernel_sizes": (3, 2), "strides": (2, 1), "paddings": (1, 0)}
    model = CoDANet(**settings, temperature=3.0)
    cells = np.random.default_rng(1).random((8, 8, 6, 6), np.float32)
    return model, random_variables(model, cells), cells


def test_cells_of_a_coda_net_are_images(coda_net):
    model, variables, cells = coda_net
    logits_fn, grids = Partial(model.apply, variables), join_cells(cells, (2, 2))
    of_cells = np.asarray(jax.jit(model.apply)(variables, cells)).reshape(2, 4, 3)
    close = {"rtol": 1e-5, "atol": 1e-6}  # float32 sums of some hundred products.
    np.testing.assert_allclose(jax.jit(difull(logits_fn, (2, 2)))(grids), of_cells.reshape(2, 12), **close)
    np.testing.assert_allclose(jax.jit(dipart(logits_fn, (2, 2)))(grids), of_cells.mean(1), **close)
    # The network sums where DiPart takes the mean: but for the bias, it has n times as much.
    own = contributions(model, variables, cells, "all").sum((2, 3, 4)).reshape(2, 4, 3).sum(1)
    np.testing.assert_allclose(own / 4 + model.logit_bias, of_cells.mean(1), **close)


def test_dipart_of_a_residual_network_is_its_head_on_the_mean_of_all_cells():
    model, cells = ResNet(depth=8, num_classes=3), np.random.default_rng(1).random((4, 8, 8, 6), np.float32)
    variables = random_variables(model, cells)
    variables["batch_stats"] = jax.tree.map(lambda array: np.abs(array) + 0.5, variables["batch_stats"])
    logits_fn, grids = Partial(model.apply, variables), join_cells(cells, (2, 2))
    features, _ = split(logits_fn, cells, "blocks_2")
    joined = np.asarray(jax.jit(cell_by_cell(features, (2, 2)))(grids))
    assert joined.shape == (1, 4, 4, 64)
    head = variables["params"]["head"]
    expected = joined.mean((1, 2)) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(jax.jit(dipart(logits_fn, (2, 2)))(grids), expected, rtol=1e-4, atol=1e-5)  # float32.


def test_one_program_serves_all_variables(coda_net):
    model, variables, cells = coda_net
    traces = []

    def logits_fn(variables, cells):
        traces.append(None)
        return model.apply(variables, cells)

    grids = join_cells(cells, (2, 2))
    for count, scale in enumerate((1, 2)):
        scaled = jax.tree.map(lambda array, scale=scale: scale * array, variables)
        maps = input_x_gradient(difull(Partial(logits_fn, scaled), (2, 2)), grids, [[0], [11]])
        if count == 0:
            first, before = len(traces), np.asarray(maps)
    assert len(traces) == first
    assert np.abs(maps - before).max() > 1e-3 * np.abs(before).max()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: difull(3, WIDE), "logits_fn must be a function, not 3"),
        (lambda: dipart(linear, 2), "grid must be the numbers of rows and columns"),
        (lambda: cell_by_cell("layers_1", WIDE), "function must be a function, not 'layers_1'"),
        (lambda: difull(linear, (1, 3))(GRID), "1x4 pixels cannot be divided into a grid of 1x3 cells"),
        (lambda: cut_cells(GRID[0], WIDE), r"grids must be floating-point \[N, H, W, C\]"),
        (lambda: join_cells(GRID, WIDE), r"cells must have shape \[G · 2, H, W, C\], not \[1, 1, 4, 2\]"),
    ],
)
def test_bad_arguments(function, message):
    with pytest.raises(InputError, match=message):
        function()
