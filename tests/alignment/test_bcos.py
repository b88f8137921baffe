from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coda_jax import InputError
from coda_jax.alignment.bcos import BcosConv, Residual, ScaledConvolution, average_pool
from coda_jax.alignment.linear_map import LinearMap, in_sequence

CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # float32: sums of at most some hundred products of order 1.


@partial(jax.jit, static_argnames=("stride", "padding", "maxout", "b"))  # As a whole, which is faster.
def apply(inputs, kernel, **attributes):
    """The outputs and the map of a layer with this kernel."""
    kernel = jnp.asarray(kernel, jnp.float32)
    layer = BcosConv(kernel.shape[-1] // attributes.get("maxout", 1), kernel.shape[0], **attributes)
    return layer.apply({"params": {"kernel": kernel}}, jnp.asarray(inputs, jnp.float32))


dense = jax.jit(ScaledConvolution.dense)


# One pixel with two channels, of length 5, and the response 4 of the weight (0, 1): the cosine is 4/5.
PIXEL = np.array([[[[3.0, 4.0]]]])


@pytest.mark.parametrize(("b", "expected"), [(1, 4.0), (2, 4 * 0.8), (3, 4 * 0.8**2), (1.5, 4 * 0.8**0.5)])
def test_a_unit_by_hand(b, expected):
    for weight in ([0, 1], [0, 7]):  # The length of a weight does not matter.
        outputs, linear = apply(PIXEL, np.reshape(weight, (1, 1, 2, 1)), b=b)
        np.testing.assert_allclose(outputs, [[[[expected]]]], rtol=1e-5)
        # Held fixed, the cosine scales the unit's direction.
        np.testing.assert_allclose(dense(linear), [[[[[[[0, expected / 4]]]]]]], rtol=1e-5)
    np.testing.assert_allclose(apply(PIXEL, np.reshape([0, -2], (1, 1, 2, 1)), b=b)[0], [[[[-expected]]]], rtol=1e-5)


def test_maxout_by_hand():
    # The responses of two units with two weights each: (-4, 3) and (4, 5).
    outputs, linear = apply(PIXEL, np.array([[[[0, 1, 0, 0.6], [-1, 0, 1, 0.8]]]]), maxout=2)
    np.testing.assert_allclose(outputs, [[[[3 * 0.6, 5]]]], rtol=1e-5)
    np.testing.assert_allclose(np.asarray(dense(linear))[0, 0, 0, :, 0, 0], [[0.6, 0], [0.6, 0.8]], rtol=1e-5)


def test_lengths_are_those_of_whole_patches_with_zeros_in_the_padding():
    # The weight reads the middle of the patch alone, which is ones and, outside of the image, zeros.
    kernel = np.zeros((3, 3, 1, 1))
    kernel[1, 1] = 1
    outputs, _ = apply(np.ones((1, 3, 3, 1)), kernel, padding=1)
    inside = np.array([[4, 6, 4], [6, 9, 6], [4, 6, 4]])
    np.testing.assert_allclose(np.asarray(outputs)[0, :, :, 0], 1 / np.sqrt(inside), rtol=1e-6)


# For powers below 1 the slope is that at a cosine of 10⁻⁶: 10⁻³ times the sum of three directions (1, 1)/√2.
@pytest.mark.parametrize(("b", "slope"), [(2, 0), (1.5, 1e-3 * 3 / 2**0.5)])
def test_of_nothing_there_is_nothing(b, slope):
    total = jax.jit(jax.value_and_grad(lambda inputs: jnp.sum(apply(inputs, np.ones((1, 1, 2, 3)), b=b)[0])))
    value, gradient = total(np.zeros((1, 1, 1, 2), np.float32))
    assert value == 0
    np.testing.assert_allclose(gradient, np.full((1, 1, 1, 2), slope), rtol=1e-5)


def test_normalisation_by_hand():
    # B = 1 and the weight 1 leave the inputs as they are: their mean is 5, their variance 8.
    inputs, kernel = np.float32([1, 5, 5, 9]).reshape(1, 2, 2, 1), np.ones((1, 1, 1, 1), np.float32)
    params = {"kernel": kernel, "norm": np.float32([3])}
    layer = BcosConv(1, 1, b=1, batch_norm=True)
    variables = {"params": params, "batch_stats": {"variance": np.float32([4])}}
    apply_map = jax.jit(ScaledConvolution.apply)
    outputs, linear = jax.jit(layer.apply)(variables, inputs)
    np.testing.assert_allclose(outputs, 3 * inputs / np.sqrt(4 + 1e-5), rtol=1e-6)
    np.testing.assert_allclose(apply_map(linear, inputs), outputs, rtol=1e-6)
    in_training = jax.jit(partial(layer.clone(train=True).apply, mutable=["batch_stats"]))
    (outputs, linear), updated = in_training(variables, inputs)
    np.testing.assert_allclose(outputs, 3 * inputs / np.sqrt(8 + 1e-5), rtol=1e-6)
    np.testing.assert_allclose(apply_map(linear, inputs), outputs, rtol=1e-6)
    np.testing.assert_allclose(updated["batch_stats"]["variance"], [0.9 * 4 + 0.1 * 8], rtol=1e-6)


def test_the_first_running_variance_is_one():
    for train in (False, True):
        layer = BcosConv(2, 1, batch_norm=True, train=train)
        variables = jax.jit(layer.init)(jax.random.key(0), np.ones((1, 2, 2, 3), np.float32))
        assert jax.tree.map(lambda leaf: leaf.tolist(), variables["batch_stats"]) == {"variance": [1, 1]}
        assert variables["params"]["norm"].tolist() == [1, 1]


def test_average_pool_by_hand():
    @jax.jit
    def pooled_and_spread(inputs):
        outputs, linear = average_pool(inputs, 3, 2, 1)
        return outputs[0, :, :, 0], linear.transpose(jnp.ones((1, 1, 2, 2, 1)))[0, 0, :, :, 0]

    outputs, spread = pooled_and_spread(np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3, 1))
    # The four corners' patches hold four pixels each, and all are divided by nine.
    expected = np.array([[1 + 2 + 4 + 5, 2 + 3 + 5 + 6], [4 + 5 + 7 + 8, 5 + 6 + 8 + 9]]) / 9
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)
    # The pixel in the middle is in all four patches, those at the sides in two.
    np.testing.assert_allclose(spread, np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 9, rtol=1e-6)


def test_dtypes():
    inputs = np.random.default_rng(0).uniform(size=(1, 4, 4, 6)).astype(np.float32)
    layer = BcosConv(5, 3, batch_norm=True, dtype="bfloat16")
    variables = jax.jit(layer.init)(jax.random.key(1), inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    outputs, linear = jax.jit(layer.apply)(variables, inputs)
    exact, _ = jax.jit(layer.clone(dtype="float32").apply)(variables, inputs)
    assert (outputs.dtype, linear.scale.dtype) == (jnp.bfloat16, jnp.float32)
    # bfloat16 keeps 8 bits: relative errors of 2⁻⁹ in each of inputs, parameters and responses, averaged over the sums.
    np.testing.assert_allclose(np.float32(outputs), exact, atol=2e-2 * np.abs(np.asarray(exact)).max())
    assert jax.eval_shape(linear.transpose, jnp.ones((1, 2, 2, 2, 5))).dtype == jnp.float32


def test_a_kernel_that_fits_nowhere():
    with pytest.raises(InputError, match="a kernel of 5 does not fit into 2 pixels padded by 1"):
        apply(np.ones((1, 4, 2, 1)), np.ones((5, 5, 1, 1)), padding=1)


LAYERS = st.fixed_dictionaries(
    {
        "size": st.integers(1, 4),
        "stride": st.integers(1, 3),
        "padding": st.integers(0, 4),
        "height": st.integers(4, 7),
        "width": st.integers(4, 6),
        "maxout": st.integers(1, 3),
        "b": st.sampled_from([1.0, 1.25, 2.0, 3.0]),
        "seed": st.integers(0, 100),
    }
)


@settings(max_examples=8, deadline=None, database=None, derandomize=True)
@given(LAYERS)
def test_outputs_are_the_definitions_and_maps_are_matrices(layer):
    size, stride, padding, maxout = (layer[name] for name in ("size", "stride", "padding", "maxout"))
    rng = np.random.default_rng(layer["seed"])
    inputs = rng.normal(size=(2, layer["height"], layer["width"], 2)).astype(np.float32)
    kernel = rng.normal(size=(size, size, 2, 3 * maxout)).astype(np.float32)
    attributes = {"stride": stride, "padding": padding, "maxout": maxout, "b": layer["b"]}
    outputs = outputs_of_a_matrix(partial(apply, kernel=kernel, **attributes), inputs)
    padded = np.pad(inputs.astype(np.float64), ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    weights = (kernel / np.sqrt(np.sum(kernel.astype(np.float64) ** 2, axis=(0, 1, 2)))).reshape(-1, 3, maxout)
    for n, x, y in np.ndindex(outputs.shape[:3]):
        patch = padded[n, x * stride : x * stride + size, y * stride : y * stride + size].reshape(-1)
        responses = np.max(np.einsum("d,dkm->km", patch, weights), axis=-1)
        cosines = np.abs(responses) / np.sqrt(np.sum(patch**2) + 1e-6)
        np.testing.assert_allclose(outputs[n, x, y], cosines ** (layer["b"] - 1) * responses, rtol=1e-4, atol=1e-5)


def outputs_of_a_matrix(layer, inputs):
    """The outputs of `layer`. Its map gives them, and is the matrix `dense`, of which `transpose` is the transpose."""

    @jax.jit
    def everything(inputs, others):
        outputs, linear = layer(inputs)
        cotangents = np.random.default_rng(1).normal(size=(len(outputs), 3, *outputs.shape[1:])).astype(np.float32)
        of_map = linear.dense(), linear.apply(inputs), linear.apply(others), linear.transpose(cotangents)
        return outputs, cotangents, *of_map

    others = np.random.default_rng(0).normal(size=inputs.shape).astype(np.float32)
    outputs, cotangents, matrix, *found = map(np.asarray, everything(inputs, others))
    assert matrix.shape == (*outputs.shape, *inputs.shape[1:])
    np.testing.assert_allclose(found[0], outputs, **CLOSE)
    np.testing.assert_allclose(found[1], np.einsum("nxykhwc,nhwc->nxyk", matrix, others), **CLOSE)
    np.testing.assert_allclose(found[2], np.einsum("nxykhwc,ntxyk->nthwc", matrix, cotangents), **CLOSE)
    return outputs


@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 2, 1), (2, 2, 0), (3, 1, 2)])
def test_average_pool_is_its_matrix(size, stride, padding):
    outputs_of_a_matrix(partial(average_pool, size=size, stride=stride, padding=padding), random_values(2, 5, 6, 3))


def random_values(*shape):
    return np.random.default_rng(2).normal(size=shape).astype(np.float32)


def random_layer(channels, features, stride=1):
    return partial(apply, kernel=random_values(3, 3, channels, features), padding=1, stride=stride)


@pytest.mark.parametrize("identity", [True, False])
def test_a_residual_is_the_sum_of_its_branches(identity):
    inputs, layers = random_values(2, 4, 5, 3), [random_layer(3, 4, 1 if identity else 2), random_layer(4, 3)]

    def block(inputs):
        branch, linear_map = in_sequence(layers, inputs)
        shortcut, of_shortcut = (inputs, None) if identity else random_layer(3, 3, 2)(inputs)
        return branch + shortcut, Residual(linear_map, of_shortcut)

    @jax.jit
    def matrices(inputs):
        residual = block(inputs)[1]
        of_other = np.eye(60).reshape(1, 4, 5, 3, 4, 5, 3) if identity else residual.shortcut.dense()
        return residual.dense(), residual.layers.dense(), of_other

    outputs_of_a_matrix(block, inputs)
    of_residual, of_branch, of_other = map(np.asarray, matrices(inputs))
    np.testing.assert_allclose(of_residual, of_branch + of_other, **CLOSE)


def test_layers_in_sequence():
    inputs, layers = random_values(2, 4, 4, 3), [random_layer(3, 4), lambda x: average_pool(x, 3, 2, 1)]
    _, linear_map = jax.eval_shape(partial(in_sequence, layers), inputs)
    assert isinstance(linear_map, LinearMap) and all(isinstance(one, ScaledConvolution) for one in linear_map.layers)
    assert [array.shape for array in linear_map.inputs] == [(2, 4, 4, 3), (2, 4, 4, 4)]
    outputs_of_a_matrix(partial(in_sequence, layers), inputs)
