from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coda_jax import CoDANet
from coda_jax.alignment.linear_map import SumPool

MODEL = CoDANet(
    channels=(4, 3),
    ranks=(5, 2),
    kernel_sizes=(3, 2),
    strides=(2, 1),
    paddings=(1, 0),
    temperature=2.0,
    logit_bias=-1.0,
)


@pytest.fixture(scope="module")
def decomposed():
    """(inputs, logits, linear map) of a small random network."""
    inputs = jax.random.uniform(jax.random.key(1), (2, 6, 5, 6))
    variables = jax.jit(MODEL.init)(jax.random.key(0), inputs)
    return inputs, *jax.jit(partial(MODEL.apply, method="decompose"))(variables, inputs)


def test_sum_pool_by_hand():
    pool = SumPool((1, 2, 2), temperature=10.0)
    np.testing.assert_allclose(pool.apply(jnp.array([[[[1.0, 2.0], [3.0, 4.0]]]])), [[0.4, 0.6]], rtol=1e-6)
    ones = jnp.ones((1, 1, 1001, 2), jnp.bfloat16)  # bfloat16 has no number 1001.
    np.testing.assert_array_equal(SumPool(ones.shape[1:], temperature=1.0).apply(ones), [[1001, 1001]])
    np.testing.assert_allclose(pool.transpose(jnp.array([[[5.0, 7.0]]])), [[[[[0.5, 0.7]] * 2]]], rtol=1e-6)
    np.testing.assert_allclose(pool.dense(), [[[[[0.1, 0]] * 2], [[[0, 0.1]] * 2]]][0:1], rtol=1e-6)


def test_apply_gives_the_logits_without_bias(decomposed):
    inputs, logits, linear_map = decomposed
    # Tolerances here: sums of at most some thousand float32 products of order 1.
    np.testing.assert_allclose(linear_map.apply(inputs), logits + 1.0, rtol=1e-5, atol=1e-6)


def test_dense_is_the_product_of_the_matrices(decomposed):
    inputs, logits, linear_map = decomposed
    first, second, head = (layer.dense() for layer in linear_map.layers)
    product = np.einsum("zkxyj,nxyjabi,nabihwc->nkhwc", head, second, first)
    np.testing.assert_allclose(linear_map.dense(), product, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.einsum("nkhwc,nhwc->nk", product, inputs), logits + 1.0, rtol=1e-5, atol=1e-6)


def test_transpose_gives_rows_of_the_dense_matrix(decomposed):
    _, _, linear_map = decomposed
    rows = linear_map.transpose(jnp.broadcast_to(jnp.eye(3), (2, 3, 3)))
    np.testing.assert_allclose(rows, linear_map.dense(), rtol=1e-4, atol=1e-6)


def test_rows_and_contributions_of_classes(decomposed):
    inputs, _, linear_map = decomposed
    targets = jnp.array([[2, 0], [1, 2]])
    rows = np.take_along_axis(linear_map.dense(), targets[..., None, None, None], axis=1)
    np.testing.assert_allclose(linear_map.rows(targets), rows, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(linear_map.contributions(targets), rows * inputs[:, None], rtol=1e-4, atol=1e-6)
    hidden = linear_map[:1].apply(inputs)
    np.testing.assert_allclose(
        linear_map[1:].contributions(targets), linear_map[1:].rows(targets) * hidden[:, None], rtol=1e-4, atol=1e-6
    )


def test_slices_are_the_maps_between_layers(decomposed):
    inputs, logits, linear_map = decomposed
    assert [len(linear_map), len(linear_map[1:]), len(linear_map[:1])] == [3, 2, 1]
    between = linear_map[:1].apply(inputs)
    assert between.shape == (2, 3, 3, 4)
    np.testing.assert_allclose(linear_map[1:].apply(between), logits + 1.0, rtol=1e-5, atol=1e-6)
    assert linear_map[1:].transpose(jnp.ones((2, 1, 3))).shape == (2, 1, 3, 3, 4)
    assert linear_map[:2].dense().shape == (2, 2, 2, 3, 6, 5, 6)
