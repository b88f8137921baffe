from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coda_jax import InputError
from coda_jax.metrics.localisation import PAPER_GRIDS, compose_grids, draw_grids, localisation_score
from tests.golden import DTYPES, SHARED, TOLERANCE, assert_close

# The score without and with compilation is the same to float32's rounding of sums of some hundred values.
ROUNDING = 1e-5


def test_score_by_hand():
    maps = np.zeros((1, 2, 2, 4))
    maps[0, 0] = [[3, 0, 1, 0], [-5, 0, 0, -7]]  # Cell 0 is the left half: 3 of 4.
    maps[0, 1] = [[0, 1, 0, 0], [0, 1, 0.5, -9]]  # Cell 1 is the right half: 0.5 of 2.5.
    np.testing.assert_allclose(localisation_score(maps, (1, 2)), [[0.75, 0.2]], rtol=1e-6)


def test_cells_are_counted_by_rows():
    maps = np.zeros((1, 6, 2, 6))
    maps[:, 1, 0, 2] = maps[:, 3, 1, 1] = 1  # Row 0, column 1; row 1, column 0.
    maps[:, 2, 1, 0] = 1  # Where it would belong if cells were counted by columns.
    np.testing.assert_array_equal(localisation_score(maps, (2, 3)), [[0, 1, 0, 1, 0, 0]])


def test_nothing_positive_scores_zero():
    np.testing.assert_array_equal(localisation_score(-np.ones((2, 9, 3, 3))), np.zeros((2, 9)))


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (3, 3), (2, 4)])
def test_uniform_maps_score_one_over_the_cells(grid):
    cells = grid[0] * grid[1]
    scores = localisation_score(np.full((2, cells, 2 * grid[0], 5 * grid[1]), 0.3), grid)
    np.testing.assert_allclose(scores, np.full((2, cells), 1 / cells), rtol=ROUNDING)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", [2, 3])
def test_scores_and_grids_are_the_authors(side, dtype):
    golden = load_localisation(side)
    by_rows = np.arange(side * side).reshape(side, side).T.ravel()  # They count the cells by columns.
    with jax.enable_x64(dtype == jnp.float64):
        maps = golden["attributions"].sum(axis=1).astype(dtype)[by_rows][None]
        scores = localisation_score(maps, (side, side))
        assert scores.dtype == dtype
        assert_close(np.asarray(scores)[0], golden["scores"][by_rows], TOLERANCE[dtype])
        images = golden["images"].transpose(0, 2, 3, 1).astype(dtype)
        grids = compose_grids(images, by_rows[None], (side, side))
        np.testing.assert_array_equal(np.asarray(grids)[0], golden["grid"].transpose(1, 2, 0).astype(dtype))


def load_localisation(side):
    path = SHARED / "golden" / f"localisation_{side}x{side}.npz"
    if not path.exists():
        pytest.skip(f"needs the outputs of the authors' code in {path}, which only developers have")
    with np.load(path) as arrays:
        return dict(arrays)


@settings(max_examples=20, deadline=None)
@given(
    grid=st.sampled_from([(1, 3), (2, 2), (3, 2)]),
    cell=st.sampled_from([(1, 1), (2, 3)]),  # Few shapes, each of which is compiled.
    seed=st.integers(0, 1000),
)
def test_score_properties(grid, cell, seed):
    rng = np.random.default_rng(seed)
    cells = grid[0] * grid[1]
    tiles = rng.normal(size=(cells, 2, cells, *cell, 1)).astype(np.float32)  # [target, G, cell, h, w, 1]

    def scores(tiles):
        indices = np.arange(tiles[..., 0, 0, 0].size).reshape(-1, cells)
        maps = np.asarray(compose_grids(tiles.reshape(-1, *cell, 1), indices, grid))
        return np.asarray(localisation_score(maps.reshape(cells, 2, *maps.shape[1:3]).swapaxes(0, 1), grid))

    found = scores(tiles)
    assert found.shape == (2, cells)
    assert np.all((found >= 0) & (found <= 1 + ROUNDING))
    positive = np.maximum(tiles, 0).sum((3, 4, 5))
    own, total = positive[range(cells), :, range(cells)], positive.sum(2)
    np.testing.assert_allclose(found, np.where(total > 0, own / np.maximum(total, 1e-30), 0).T, rtol=ROUNDING)
    permutation = rng.permutation(cells)
    np.testing.assert_allclose(scores(tiles[permutation][:, :, permutation]), found[:, permutation], rtol=ROUNDING)
    np.testing.assert_allclose(scores(7 * tiles), found, rtol=ROUNDING)


def test_compose_by_hand():
    inputs = np.arange(4.0).reshape(4, 1, 1, 1) + np.zeros((4, 1, 2, 1))
    grids = compose_grids(inputs, np.array([[3, 0, 1, 1], [2, 2, 3, 0]]), (2, 2))
    np.testing.assert_array_equal(
        np.asarray(grids)[..., 0], [[[3, 3, 0, 0], [1, 1, 1, 1]], [[2, 2, 2, 2], [3, 3, 0, 0]]]
    )


def test_under_jit_vmap_and_eval_shape():
    rng = np.random.default_rng(0)
    maps, inputs = rng.normal(size=(5, 9, 6, 9)), rng.uniform(size=(20, 2, 3, 6))
    indices = rng.integers(0, 20, (5, 9))
    expected = localisation_score(maps)
    np.testing.assert_allclose(jax.jit(localisation_score)(maps), expected, rtol=ROUNDING)
    np.testing.assert_allclose(jax.vmap(lambda one: localisation_score(one[None])[0])(maps), expected, rtol=ROUNDING)
    assert jax.eval_shape(localisation_score, maps).shape == (5, 9)
    np.testing.assert_array_equal(jax.jit(compose_grids)(inputs, indices), compose_grids(inputs, indices))
    assert jax.eval_shape(compose_grids, inputs, indices).shape == (5, 6, 9, 6)


def test_draw_by_hand():
    logits = np.full((8, 3), -9.0)
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    logits[np.arange(8), labels] = [1, 3, 2, 5, 4, -0.5, 7, 8]  # Image 5 is correct, but not confident.
    logits[7, 0] = 8.5  # Confident, but not correct.
    grids = draw_grids(logits, labels, count=1, grid=(1, 3), seed=0)
    np.testing.assert_array_equal(np.sort(grids), [[1, 3, 6]])
    with pytest.raises(
        InputError,
        match="grids of 3 classes .* seed 0 can be 1, not 2: 6 of 8 images .* class 2 has the fewest of them, 1",
    ):
        draw_grids(logits, labels, count=2, grid=(1, 3), seed=0)
    pairs = draw_grids(logits, labels, count=None, grid=(1, 2), seed=3)
    assert len(pairs) in (2, 3)  # Six images, of which the last two may be of one class.


@settings(max_examples=25, deadline=None)
@given(
    examples=st.integers(60, 300),
    classes=st.integers(4, 7),
    grid=st.sampled_from([(1, 1), (1, 2), (2, 2)]),
    seed=st.integers(0, 1000),
)
def test_draw_properties(examples, classes, grid, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, examples)
    logits = rng.normal(size=(examples, classes)) + 2 * np.eye(classes)[labels]
    cells = grid[0] * grid[1]
    grids = draw_grids(logits, labels, count=None, grid=grid, seed=seed)
    assert grids.shape == (len(grids), cells) and np.issubdtype(grids.dtype, np.integer)
    np.testing.assert_array_equal(grids, draw_grids(logits, labels, count=len(grids), grid=grid, seed=seed))

    assert all(len(set(labels[images])) == cells for images in grids)
    drawn = grids.ravel()
    own = logits[np.arange(examples), labels]
    right = (logits.argmax(1) == labels) & (1 / (1 + np.exp(-own)) > 0.5)
    assert right[drawn].all() and len(set(drawn)) == drawn.size
    left = set(np.flatnonzero(right)) - set(drawn)
    for label in range(classes):
        used = own[drawn[labels[drawn] == label]]
        assert np.all(np.diff(used) <= 0)  # The most confident first.
        assert all(own[image] <= used.min(initial=np.inf) for image in left if labels[image] == label)
    assert len(grids) == PAPER_GRIDS or len({labels[image] for image in left}) < cells  # As many as possible.


def test_draw_chooses_classes_and_cells_at_random():
    labels = np.repeat(np.arange(6), 500)
    logits = 20 * np.eye(6)[labels] - 10
    grids = draw_grids(logits, labels, count=None, grid=(1, 2), seed=1)
    assert len(grids) == PAPER_GRIDS
    assert np.any(grids != draw_grids(logits, labels, count=None, grid=(1, 2), seed=2))
    counts = Counter(map(tuple, labels[grids]))
    assert len(counts) == 30  # All ordered pairs of classes.
    assert max(counts.values()) < 17 + 6 * 4.1  # A binomial's mean and six standard deviations.


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (
            localisation_score,
            (np.zeros((9, 6, 6)),),
            r"maps must have shape \[G, 9, gh, gw\] for grid \(3, 3\), not \[9, 6, 6\]",
        ),
        (localisation_score, (np.zeros((1, 4, 6, 6)),), r"maps must have shape \[G, 9, .* not \[1, 4, 6, 6\]"),
        (
            localisation_score,
            (np.zeros((1, 9, 6, 7)),),
            "maps of 6x7 pixels cannot be divided into a grid of 3x3 cells",
        ),
        (localisation_score, (np.zeros((1, 9, 6, 6)), 3), r"grid must be the numbers of rows and columns, .* not 3"),
        (localisation_score, (np.zeros((1, 0, 6, 6)), (0, 3)), r"grid must be .* not \(0, 3\)"),
        (compose_grids, (np.zeros((4, 2, 2)), np.zeros((1, 9), int)), r"inputs must have shape \[N, H, W, C\]"),
        (
            compose_grids,
            (np.zeros((4, 2, 2, 1)), np.zeros((1, 4), int)),
            r"indices must be whole numbers of shape \[G, 9\]",
        ),
        (compose_grids, (np.zeros((4, 2, 2, 1)), np.zeros((1, 9))), r"not float64 \[1, 9\]"),
        (compose_grids, (np.zeros((4, 2, 2, 1)), np.full((1, 9), 4)), "index 4 is not of an image: .* from 0 to 3"),
        (compose_grids, (np.zeros((4, 2, 2, 1)), jnp.full((1, 9), -1)), "index -1 is not of an image"),
    ],
)
def test_bad_arguments(function, arguments, message):
    with pytest.raises(InputError, match=message):
        function(*arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logits": np.zeros(20)}, r"logits must have shape \[N, K\], not \[20\]"),
        ({"labels": np.zeros(19, int)}, r"labels must be whole numbers of shape \[20\], not int64 \[19\]"),
        ({"labels": np.zeros(20)}, r"not float64 \[20\]"),
        ({"labels": np.arange(20)}, "labels must be from 0 to 9, but are from 0 to 19"),
        ({"grid": (4, 4)}, "a grid of 4x4 cells needs 16 classes, but there are 10"),
        ({"count": 0}, "count must be at least 1, not 0"),
        ({"logits": -np.ones((20, 10)), "count": None}, "grids of 9 classes .* can be 0, not 1: 0 of 20 images"),
        ({"count": 3}, "grids .* can be 2, not 3: 20 of 20 .* class 0 has the fewest of them, 2"),
    ],
)
def test_bad_draws(changes, message):
    labels = np.tile(np.arange(10), 2)
    arguments = {"logits": 4 * np.eye(10)[labels] - 1, "labels": labels, "count": 1, "seed": 0} | changes
    with pytest.raises(InputError, match=message):
        draw_grids(arguments.pop("logits"), arguments.pop("labels"), **arguments)
