import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coda_jax import CoDANet
from coda_jax.alignment.linear_map import LinearMap, SumPool

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
    """(inputs, logits, linear map, its matrix) of a small random network."""
    inputs = np.random.default_rng(0).uniform(size=(2, 6, 5, 6)).astype(np.float32)
    variables = jax.jit(MODEL.init)(jax.random.key(0), inputs)

    @jax.jit
    def decompose(variables, inputs):
        logits, linear_map = MODEL.apply(variables, inputs, method="decompose")
        return logits, linear_map, linear_map.dense()

    logits, linear_map, matrix = decompose(variables, inputs)
    return inputs, np.asarray(logits), linear_map, np.asarray(matrix)


def test_sum_pool_by_hand():
    pool, apply = SumPool((1, 2, 2), temperature=10.0), jax.jit(SumPool.apply)
    np.testing.assert_allclose(apply(pool, np.float32([[[[1, 2], [3, 4]]]])), [[0.4, 0.6]], rtol=1e-6)
    ones = np.ones((1, 1, 1001, 2), jnp.bfloat16)  # bfloat16 has no number 1001.
    np.testing.assert_array_equal(apply(SumPool(ones.shape[1:], temperature=1.0), ones), [[1001, 1001]])
    spread = jax.jit(SumPool.transpose)(pool, np.float32([[[5, 7]]]))
    np.testing.assert_allclose(spread, [[[[[0.5, 0.7]] * 2]]], rtol=1e-6)
    np.testing.assert_allclose(jax.jit(SumPool.dense)(pool), [[[[[0.1, 0]] * 2], [[[0, 0.1]] * 2]]][0:1], rtol=1e-6)


def test_apply_gives_the_logits_without_bias(decomposed):
    inputs, logits, linear_map, _ = decomposed
    # Tolerances here: sums of at most some thousand float32 products of order 1.
    np.testing.assert_allclose(jax.jit(LinearMap.apply)(linear_map, inputs), logits + 1.0, rtol=1e-5, atol=1e-6)


def test_dense_is_the_product_of_the_matrices(decomposed):
    inputs, logits, linear_map, matrix = decomposed
    first, second, head = jax.jit(lambda linear_map: [layer.dense() for layer in linear_map.layers])(linear_map)
    product = np.einsum("zkxyj,nxyjabi,nabihwc->nkhwc", head, second, first)
    np.testing.assert_allclose(matrix, product, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.einsum("nkhwc,nhwc->nk", product, inputs), logits + 1.0, rtol=1e-5, atol=1e-6)


def test_transpose_gives_rows_of_the_dense_matrix(decomposed):
    _, _, linear_map, matrix = decomposed
    cotangents = np.broadcast_to(np.eye(3, dtype=np.float32), (2, 3, 3))
    np.testing.assert_allclose(jax.jit(LinearMap.transpose)(linear_map, cotangents), matrix, rtol=1e-4, atol=1e-6)


def test_rows_and_contributions_of_classes(decomposed):
    inputs, _, linear_map, matrix = decomposed
    targets = np.array([[2, 0], [1, 2]])

    @jax.jit
    def at_layers(linear_map):
        both = [(linear_map[layer:].rows(targets), linear_map[layer:].contributions(targets)) for layer in (0, 1)]
        return *both, linear_map[:1].apply(inputs)

    (rows, maps), (hidden_rows, hidden_maps), hidden = jax.tree.map(np.asarray, at_layers(linear_map))
    expected = np.take_along_axis(matrix, targets[..., None, None, None], axis=1)
    np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(maps, expected * inputs[:, None], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(hidden_maps, hidden_rows * hidden[:, None], rtol=1e-4, atol=1e-6)


def test_slices_are_the_maps_between_layers(decomposed):
    inputs, logits, linear_map, _ = decomposed
    assert [len(linear_map), len(linear_map[1:]), len(linear_map[:1])] == [3, 2, 1]

    @jax.jit
    def in_two_steps(linear_map):
        between = linear_map[:1].apply(inputs)
        return between, linear_map[1:].apply(between)

    between, after = in_two_steps(linear_map)
    assert between.shape == (2, 3, 3, 4)
    np.testing.assert_allclose(after, logits + 1.0, rtol=1e-5, atol=1e-6)
    assert jax.eval_shape(linear_map[1:].transpose, jnp.ones((2, 1, 3))).shape == (2, 1, 3, 3, 4)
    assert jax.eval_shape(linear_map[:2].dense).shape == (2, 2, 2, 3, 6, 5, 6)
