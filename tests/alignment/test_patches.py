import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coda_jax import InputError
from coda_jax.alignment.patches import extract_patches, fold_patches, output_size

extract = jax.jit(extract_patches, static_argnums=(1, 2, 3))
fold = jax.jit(fold_patches, static_argnums=(1, 2, 3))

IMAGE = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)  # 1 2 3 / 4 5 6 / 7 8 9


def test_extract_by_hand():
    patches = extract_patches(IMAGE, kernel_size=2, stride=2, padding=1)
    # Positions start at rows and columns -1 and 1 of the image.
    expected = [[[[0, 0], [0, 1]], [[0, 0], [2, 3]]], [[[0, 4], [0, 7]], [[5, 6], [8, 9]]]]
    np.testing.assert_array_equal(patches[0, ..., 0], expected)


def test_extract_leaves_out_what_no_patch_reaches():
    patches = extract_patches(IMAGE, kernel_size=1, stride=2, padding=0)
    np.testing.assert_array_equal(patches.squeeze(), [[1, 3], [7, 9]])


def test_fold_counts_the_patches_that_hold_a_pixel():
    patches = extract_patches(jnp.ones((1, 3, 3, 1)), kernel_size=2, stride=1, padding=0)
    folded = fold_patches(patches, (3, 3), stride=1, padding=0)
    np.testing.assert_array_equal(folded.squeeze(), [[1, 2, 1], [2, 4, 2], [1, 2, 1]])


@settings(max_examples=15, deadline=None)
@given(
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    kernel_size=st.integers(1, 4),
    stride=st.integers(1, 4),
    padding=st.integers(0, 3),
)
def test_fold_is_the_adjoint_of_extract(size, kernel_size, stride, padding):
    if min(size) + 2 * padding < kernel_size:
        return
    rng = np.random.default_rng(0)
    image = rng.integers(-9, 10, (2, *size, 2)).astype(np.float32)
    patches = extract(image, kernel_size, stride, padding)
    other = rng.integers(-9, 10, patches.shape).astype(np.float32)
    folded = fold(other, size, stride, padding)
    assert folded.shape == image.shape
    # Whole numbers: the two sums are exact.
    assert np.sum(np.asarray(patches) * other) == np.sum(image * np.asarray(folded))


def test_kernel_that_fits_nowhere():
    with pytest.raises(InputError, match="kernel of 5 does not fit into 2 pixels padded by 1"):
        output_size(2, kernel_size=5, stride=1, padding=1)
