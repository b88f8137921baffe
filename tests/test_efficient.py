import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coda_jax import CoDANet, InputError
from coda_jax.contributions import contributions, layer_contributions
from coda_jax.dau import dynamic_alignment
from coda_jax.efficient import Convolution, as_full_units, efficient_alignment, orthonormal_basis
from coda_jax.interop.torch import load_checkpoint, to_state_dict
from tests.parameters import random_variables

SIZES = {
    "channels": (7, 5, 3),
    "ranks": (4, 6, 5),
    "kernel_sizes": (3, 2, 1),
    "strides": (2, 1, 1),
    "paddings": (1, 1, 0),
}
MODEL = CoDANet(**SIZES, unit="efficient", temperature=2.0)
# Sums of float32 in another order.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def network():
    inputs = np.random.default_rng(1).random((3, 8, 9, 6), np.float32)
    return random_variables(MODEL), inputs


def random_layer(kernel_size=3, channels=2, rank=5, units=4, examples=2):
    rng = np.random.default_rng(0)
    window = (kernel_size, kernel_size, channels)
    shapes = ((examples, 6, 7, channels), (*window, rank), (rank, units, rank), (rank, units))
    inputs, B, A, b = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    return inputs, orthonormal_basis(B), A, b


def test_one_unit_by_hand():
    # Q keeps the first of two channels: h = 3, u = 2·3 + 1 = 7, ‖u‖²= 49, g(u) = 7·7/50, y = g(u)·h.
    Q = jnp.array([1.0, 0.0]).reshape(1, 1, 2, 1)
    outputs, linear = efficient_alignment(
        jnp.array([3.0, 5.0]).reshape(1, 1, 1, 2), Q, jnp.full((1, 1, 1), 2.0), jnp.ones((1, 1))
    )
    np.testing.assert_allclose(outputs.item(), 49 / 50 * 3, rtol=1e-6)
    np.testing.assert_allclose(linear.dense()[0, 0, 0, 0, 0, 0], [49 / 50, 0], rtol=1e-6)


def test_the_basis_spans_the_columns_and_is_orthonormal():
    B = np.random.default_rng(0).normal(size=(3, 3, 2, 5)).astype(np.float32)
    Q = np.asarray(orthonormal_basis(B)).reshape(18, 5)
    np.testing.assert_allclose(Q.T @ Q, np.eye(5), atol=1e-6)
    np.testing.assert_allclose(Q @ Q.T @ B.reshape(18, 5), B.reshape(18, 5), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="rank is at most the number of values in a patch, 2, not 3"):
        orthonormal_basis(np.ones((1, 1, 2, 3), np.float32))


@pytest.mark.parametrize(("norm", "stride", "padding"), [("sq", 1, 1), ("l2", 2, 0)])
def test_it_is_a_layer_of_full_units_confined_to_the_basis(norm, stride, padding):
    inputs, Q, A, b = random_layer()
    geometry = {"norm": norm, "stride": stride, "padding": padding}
    outputs, linear = efficient_alignment(inputs, Q, A, b, **geometry)
    expected, full = dynamic_alignment(inputs, *as_full_units(Q, A, b), **geometry)
    np.testing.assert_allclose(outputs, expected, **CLOSE)
    np.testing.assert_allclose(linear.dense(), full.dense(), **CLOSE)
    np.testing.assert_allclose(linear.apply(inputs), outputs, **CLOSE)
    cotangents = np.random.default_rng(1).normal(size=(2, 3, *outputs.shape[1:])).astype(np.float32)
    np.testing.assert_allclose(linear.transpose(cotangents), full.transpose(cotangents), **CLOSE)


@pytest.mark.parametrize(("norm", "lengths"), [("sq", (0, 1)), ("l2", (1, 1))])
def test_the_norm_of_a_weight_is_bounded(norm, lengths):
    inputs, Q, A, b = random_layer()
    weights = np.asarray(efficient_alignment(inputs, Q, 10 * A, b, norm=norm)[1].dense())
    norms = np.sqrt(np.sum(weights**2, axis=(4, 5, 6)))
    # float32 rounding; the weights reach as far as the bound.
    assert lengths[0] <= norms.min() + 1e-5 and 0.9 < norms.max() <= lengths[1] + 1e-5


def test_a_patch_without_weight_gives_zero_in_value_and_gradient():
    inputs, Q, A, b = random_layer()

    def outputs(inputs):
        return jnp.sum(efficient_alignment(inputs, Q, A, 0 * b)[0])

    value, gradient = jax.value_and_grad(outputs)(0 * inputs)
    assert value == 0
    assert not np.any(gradient)


def test_convolution():
    rng = np.random.default_rng(0)
    kernel, inputs = (rng.normal(size=shape).astype(np.float32) for shape in ((3, 3, 2, 4), (2, 5, 6, 2)))
    convolution = Convolution(kernel, (5, 6), stride=2, padding=1)
    outputs = convolution.apply(inputs)
    expected = jax.lax.conv_general_dilated(
        inputs, kernel, (2, 2), [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(outputs, expected, **CLOSE)
    np.testing.assert_allclose(np.einsum("xyrhwc,nhwc->nxyr", convolution.dense()[0], inputs), outputs, **CLOSE)
    cotangents = rng.normal(size=(2, 3, *outputs.shape[1:])).astype(np.float32)
    pulled = np.einsum("xyrhwc,ntxyr->nthwc", convolution.dense()[0], cotangents)
    np.testing.assert_allclose(convolution.transpose(cotangents), pulled, **CLOSE)


def test_contributions_are_the_product_of_the_layers_matrices(network):
    variables, inputs = network
    logits, linear_map = MODEL.apply(variables, inputs, method="decompose")
    rows = linear_map.dense()
    assert rows.shape == (3, 3, 8, 9, 6)
    found = contributions(MODEL, variables, inputs, "all")
    np.testing.assert_allclose(found, rows * inputs[:, None], **CLOSE)
    for layer in range(4):
        sums = layer_contributions(MODEL, variables, inputs, "all", layer).sum((2, 3, 4))
        np.testing.assert_allclose(sums + MODEL.logit_bias, logits, **CLOSE)
    # A gradient differentiates the weights as well.
    gradient = jax.grad(lambda inputs: MODEL.apply(variables, inputs)[:, 0].sum())(inputs)
    assert np.abs(gradient * inputs - found[:, 0]).max() > 0.1 * np.abs(found[:, 0]).max()


def test_bases_made_beforehand(network):
    variables, inputs = network
    ready = MODEL.with_gram(variables)
    assert {name: list(layer) for name, layer in ready["gram"].items()} == {
        f"layers_{layer}": ["Q"] for layer in range(3)
    }
    np.testing.assert_allclose(MODEL.apply(ready, inputs), MODEL.apply(variables, inputs), rtol=1e-6)
    np.testing.assert_allclose(*(contributions(MODEL, v, inputs) for v in (ready, variables)), rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_the_full_units():
    rng = np.random.default_rng(0)
    shapes = (3, 3, 2, 5), (5, 4, 5), (5, 4)
    parameters = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    inputs = random_layer()[0]

    def efficient(inputs, B, A, b):
        return jnp.sum(jnp.sin(efficient_alignment(inputs, orthonormal_basis(B), A, b, padding=1)[0]))

    def full(inputs, *parameters):
        return jnp.sum(jnp.sin(dynamic_alignment(inputs, *as_full_units(*parameters), padding=1)[0]))

    everything = tuple(range(4))
    found, expected = (jax.grad(function, everything)(inputs, *parameters) for function in (efficient, full))
    for ours, theirs in zip(found, expected, strict=True):
        # float32, by way of a QR decomposition.
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())


def test_the_authors_code_can_have_it_as_full_units(network):
    variables, inputs = network
    geometry = {key: SIZES[key] for key in ("strides", "paddings")}
    full, parameters = load_checkpoint(to_state_dict(MODEL, variables), **geometry, temperature=2.0)
    assert full == MODEL.clone(unit="full")
    np.testing.assert_allclose(full.apply(parameters, inputs), MODEL.apply(variables, inputs), **CLOSE)


def test_bfloat16(network):
    variables, inputs = network
    half = MODEL.clone(dtype="bfloat16")
    logits, expected = half.apply(variables, inputs), MODEL.apply(variables, inputs)
    assert logits.dtype == jnp.float32
    # Eight bits of mantissa, and three layers.
    np.testing.assert_allclose(logits, expected, rtol=0.1, atol=0.1)


def test_what_efficient_units_cannot_do():
    with pytest.raises(InputError, match="unit is 'cheap', but must be one of full, efficient"):
        CoDANet(**SIZES, unit="cheap")
    with pytest.raises(InputError, match="forms must be None for efficient units, which have one form"):
        CoDANet(**SIZES, unit="efficient", forms=("dense",) * 3)
    with pytest.raises(InputError, match="norm is 'abs', but must be one of sq, l2"):
        efficient_alignment(*random_layer(), norm="abs")
