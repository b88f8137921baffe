import itertools
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from coda_jax import InputError
from coda_jax.attribution.rise import random_mask, rise
from tests.attribution.dense import DENSE, INPUTS, TARGETS, WEIGHTS, dense, sums

ROUNDING = {"rtol": 1e-4, "atol": 1e-6}  # Sums of some hundred float32 values near 1.

KEY = jax.random.key(0)


@cache
def draw(masks, height, width, cells, probability):
    """The masks [masks, H, W] of `rise` with `KEY`."""

    def draw_one(index):
        return random_mask(jax.random.fold_in(KEY, index), height, width, cells, probability)

    return np.asarray(jax.jit(jax.vmap(draw_one))(jnp.arange(masks)))


def crops(size, cells):
    """The interpolation weights [size, cells] of one axis for every offset."""
    cell = -(-size // cells)
    large = (cells + 1) * cell
    centres = (np.arange(large) + 0.5) * cells / large - 0.5
    weights = np.stack([np.interp(centres, np.arange(cells), row) for row in np.eye(cells)], axis=1)
    return [weights[offset : offset + size] for offset in range(cell)]


def test_mask_of_one_cell_is_all_or_nothing():
    masks = draw(200, 3, 2, 1, 0.25)
    assert {tuple(mask.ravel()) for mask in masks} == {(0,) * 6, (1,) * 6}
    # 50 of 200 are expected to be kept, with a standard deviation of 6.
    assert 25 < masks[:, 0, 0].sum() < 75


def test_mask_of_two_cells_by_hand():
    # Three pixels of two cells have the first cell's value, the mean, and the second's. The crop keeps the first two.
    for mask in draw(20, 2, 2, 2, 0.5):
        first = mask[0, 0]
        right, below = 2 * mask[0, 1] - first, 2 * mask[1, 0] - first
        other = 4 * mask[1, 1] - first - right - below
        assert {first, right, below, other} <= {0, 1}


def test_masks_are_crops_of_enlarged_binary_grids():
    found = set()
    for mask in draw(100, 9, 7, 3, 0.5):
        for (row, rows), (column, columns) in itertools.product(enumerate(crops(9, 3)), enumerate(crops(7, 3))):
            grid = np.linalg.pinv(rows) @ mask @ np.linalg.pinv(columns).T
            # float32 rounding; another offset or a grid that is not binary would be wrong by a tenth or more.
            if np.allclose(grid, grid.round(), atol=1e-5) and np.allclose(rows @ grid @ columns.T, mask, atol=1e-5):
                assert set(grid.round().ravel()) <= {0, 1}
                found.add((row, column))
                break
        else:
            pytest.fail(f"no crop of an enlarged binary grid:\n{mask}")
    assert len(found) == 9  # Each of the 3 x 3 offsets is missing from 100 masks with probability 8e-6.


def test_masks_have_the_probability_as_their_mean():
    masks = draw(4000, 6, 6, 3, 0.3)
    error = masks.std(0) / np.sqrt(len(masks))
    assert np.all(np.abs(masks.mean(0) - 0.3) < 5 * error)


def test_by_hand():
    # With one cell an input is kept whole, with a score of 10, or hidden, with a score of 0.
    inputs = np.array([1, 2, 3, 4], np.float32).reshape(1, 2, 1, 2)
    kept = draw(8, 2, 1, 1, 0.25)[:, 0, 0].sum()
    assert 0 < kept < 8
    maps = rise(sums, inputs, np.array([[0, 1]]), key=KEY, masks=8, cells=1, probability=0.25)
    maps = np.asarray(maps)
    expected = 10 * kept / (8 * 0.25) / 2  # Shared by two channels.
    np.testing.assert_allclose(maps[0, 0], np.full((2, 1, 2), expected), rtol=1e-6)  # Rounding.
    np.testing.assert_allclose(maps[0, 1], np.full((2, 1, 2), 2 * expected), rtol=1e-6)


def test_is_the_formula():
    masks = draw(20, 9, 7, 3, 0.4).astype(float)
    maps = rise(DENSE, INPUTS, TARGETS, key=KEY, masks=20, cells=3, probability=0.4)
    for image, targets, image_maps in zip(INPUTS, TARGETS, np.asarray(maps), strict=True):
        for target, one in zip(targets, image_maps, strict=True):
            expected = 0
            for mask in masks:
                expected += np.tanh((image * mask[..., None]).ravel() @ WEIGHTS[:, target]) * mask / (20 * 0.4)
            np.testing.assert_allclose(one.sum(-1), expected, **ROUNDING)


def test_expectation_for_a_linear_logit():
    # A logit that is one pixel's value, 1 times the mask there, gives pixel i the expectation E[m_i m_j] / p. Each is a
    # mean of cells with weights u, so that E[m_i m_j] = p² + p (1 - p) E[Σ_k u_k(i) u_k(j)], the last over the offsets.
    image = np.zeros((1, 6, 6, 1), np.float32)
    image[0, 2, 3] = 1
    products = np.mean([weights @ weights.T for weights in crops(6, 3)], axis=0)
    expected = 0.3 + 0.7 * np.outer(products[2], products[3])

    maps = rise(sums, image, np.array([0]), key=KEY, masks=4000, cells=3, probability=0.3, copies_at_once=500)
    masks = draw(4000, 6, 6, 3, 0.3)
    maps, error = np.asarray(maps), (masks[:, 2:3, 3:4] * masks / 0.3).std(0) / np.sqrt(4000)
    assert np.all(np.abs(maps[0, 0, ..., 0] - expected) < 5 * error)
    assert np.all(5 * error < 0.1)  # The second term is up to 0.4.


def test_shapes_and_channels():
    several = rise(DENSE, INPUTS, TARGETS, key=KEY, masks=20, cells=3)
    assert several.shape == (3, 2, 9, 7, 2)
    assert several.dtype == jnp.float32
    several = np.asarray(several)
    np.testing.assert_array_equal(several[..., 0], several[..., 1])
    single = rise(DENSE, INPUTS, TARGETS[:, 1], key=KEY, masks=20, cells=3)
    np.testing.assert_allclose(single, several[:, 1:], **ROUNDING)


def test_the_key_decides():
    maps = [rise(DENSE, INPUTS, TARGETS, key=jax.random.key(key), masks=20, cells=3) for key in (0, 0, 1)]
    np.testing.assert_array_equal(maps[0], maps[1])
    assert np.abs(np.asarray(maps[0]) - maps[2]).max() > 0.01


@pytest.mark.parametrize("copies_at_once", [1, 7])
def test_chunks_change_nothing(copies_at_once):
    whole = rise(DENSE, INPUTS, TARGETS, key=KEY, masks=20, cells=3)
    chunked = rise(DENSE, INPUTS, TARGETS, key=KEY, masks=20, cells=3, copies_at_once=copies_at_once)
    np.testing.assert_allclose(chunked, whole, **ROUNDING)


def test_chunks_bound_the_memory():
    @cache
    def temporaries(masks, copies_at_once):
        inputs = jax.ShapeDtypeStruct((2, 64, 64, 2), jnp.float32)
        weights = jax.ShapeDtypeStruct((64 * 64 * 2, 3), jnp.float32)

        def explain(weights, inputs):
            logits_fn, targets = Partial(dense, weights), np.array([0, 1])
            return rise(logits_fn, inputs, targets, key=KEY, masks=masks, copies_at_once=copies_at_once)

        return jax.jit(explain).lower(weights, inputs).compile().memory_analysis().temp_size_in_bytes

    copy = 64 * 64 * 2 * 4  # Bytes of one masked copy.
    assert temporaries(100, 100) - temporaries(100, 8) > 80 * copy
    assert temporaries(10_000, 8) - temporaries(100, 8) < 20 * copy


def test_under_jit_and_vmap():
    expected = rise(DENSE, INPUTS, TARGETS, key=KEY, masks=20, cells=3)

    def explain(inputs, targets):
        return rise(DENSE, inputs, targets, key=KEY, masks=20, cells=3)

    np.testing.assert_allclose(jax.jit(explain)(INPUTS, TARGETS), expected, **ROUNDING)
    one_by_one = jax.vmap(lambda one, targets: explain(one[None], targets[None])[0])(INPUTS, TARGETS)
    np.testing.assert_allclose(one_by_one, expected, **ROUNDING)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"masks": 0}, "masks must be at least 1, not 0"),
        ({"cells": 0}, "cells must be at least 1, not 0"),
        ({"cells": 8}, "cells must be at most the inputs' 9 x 7 pixels, not 8"),
        ({"probability": 0.0}, "probability must be between 0 and 1, not 0"),
        ({"probability": 1.0}, "probability must be between 0 and 1, not 1"),
        ({"probability": float("nan")}, "probability must be finite, not nan"),
        ({"copies_at_once": 0}, "copies_at_once must be at least 1, not 0"),
        ({"inputs": INPUTS[0]}, r"inputs must be floating-point \[N, H, W, C\], not float32 \[9, 7, 2\]"),
        ({"targets": np.full(3, 3)}, "target 3 is not a class"),
    ],
)
def test_bad_arguments(arguments, message):
    arguments = {"inputs": INPUTS, "targets": TARGETS} | arguments
    with pytest.raises(InputError, match=message):
        rise(DENSE, key=KEY, **arguments)
