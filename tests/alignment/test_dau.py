import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coda_jax import InputError
from coda_jax.alignment import dau
from coda_jax.alignment.dau import DynamicLinear, cheapest_form, dynamic_alignment, gram, rescaling

# Compiled as a whole, which is faster than operation by operation.
layer_and_map = jax.jit(dynamic_alignment, static_argnames=("norm", "stride", "padding", "form"))

apply, dense, transpose = map(jax.jit, (DynamicLinear.apply, DynamicLinear.dense, DynamicLinear.transpose))

FORMS = ("factored", "dense")
NORMS = ("sq", "l2")


def random_layer(kernel_size=3, channels=4, rank=5, units=3, size=(5, 6), batch=2, seed=0):
    """(inputs, B, A, b), all float32."""
    rng = np.random.default_rng(seed)
    window = (kernel_size, kernel_size, channels)
    shapes = ((batch, *size, channels), (*window, rank), (*window, units, rank), (*window, units))
    return tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)


def by_definition(inputs, B, A, b, norm, stride, padding):
    """The layer in float64, position by position, unit by unit, as the paper writes it.

    Besides, for each output, how much larger than `‖v‖²` the terms can be that add up to it in the factored form.
    """
    inputs, B, A, b = (np.asarray(array, np.float64) for array in (inputs, B, A, b))
    k, _, _, units, rank = A.shape
    padded = np.pad(inputs, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows = (padded.shape[1] - k) // stride + 1
    columns = (padded.shape[2] - k) // stride + 1
    outputs, cancellation = np.zeros((2, len(inputs), rows, columns, units))
    for n, x, y, j in np.ndindex(outputs.shape):
        p = padded[n, x * stride : x * stride + k, y * stride : y * stride + k].ravel()
        factors = A[:, :, :, j].reshape(-1, rank), B.reshape(-1, rank).T, p, b[..., j].ravel()
        v, terms = (A_j @ (B @ p) + b_j for A_j, B, p, b_j in (factors, map(np.abs, factors)))
        length = np.linalg.norm(v)
        if length:
            cancellation[n, x, y, j] = terms @ terms / length**2
            w = v / length if norm == "l2" else v * length / (1 + length**2)
            outputs[n, x, y, j] = w @ p
    return outputs, cancellation


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("norm", "expected"), [("sq", 25 / 26 * 11 / 5), ("l2", 11 / 5)])
def test_one_unit_by_hand(form, norm, expected):
    # h = 1·1 + 0·2 = 1; v = (3, 0)·1 + (0, 4) = (3, 4); ‖v‖ = 5; vᵀp = 3·1 + 4·2 = 11.
    p = np.float32([[[[1, 2]]]])
    B = np.float32([1, 0]).reshape(1, 1, 2, 1)
    A = np.float32([3, 0]).reshape(1, 1, 2, 1, 1)
    b = np.float32([0, 4]).reshape(1, 1, 2, 1)
    outputs, linear = layer_and_map(p, B, A, b, norm=norm, form=form)
    np.testing.assert_allclose(outputs, [[[[expected]]]], rtol=1e-6)
    np.testing.assert_allclose(np.ravel(dense(linear)), np.array([3, 4]) * expected / 11, rtol=1e-6)


def test_rescaling_by_hand():
    # Rounding may leave a number such as the last where the norm is zero.
    squared_norms = np.float32([0, 1, 9, -1e-9])
    rescale = jax.jit(rescaling, static_argnums=1)
    np.testing.assert_allclose(rescale(squared_norms, "sq"), [0, 0.5, 0.3, 0], rtol=1e-6)
    np.testing.assert_allclose(rescale(squared_norms, "l2"), [0, 1, 1 / 3, 0], rtol=1e-6)


@pytest.mark.precision
@settings(max_examples=12, deadline=None)
@given(
    kernel_size=st.integers(1, 4),
    channels=st.integers(1, 3),
    rank=st.integers(1, 40),  # Above the patch's values, too.
    units=st.integers(1, 4),
    size=st.tuples(st.integers(4, 7), st.integers(4, 7)),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    norm=st.sampled_from(NORMS),
    seed=st.integers(0, 1000),
)
def test_both_forms_are_the_definition(kernel_size, channels, rank, units, size, stride, padding, norm, seed):
    layer = random_layer(kernel_size, channels, rank, units, size, seed=seed)
    expected, cancellation = by_definition(*layer, norm, stride, padding)
    # The factored norm is a sum of up to 36·40² products of float32, each rounded by 6e-8, some of which cancel.
    tolerance = 1e-4 * np.abs(expected).max() + 1e-6 * cancellation * np.abs(expected)
    attributes = {"norm": norm, "stride": stride, "padding": padding}
    with jax.default_matmul_precision("highest"):
        outputs_of_forms = jax.jit(
            lambda *layer: [dynamic_alignment(*layer, form=form, **attributes)[0] for form in FORMS]
        )
        for outputs in outputs_of_forms(*layer):
            assert (np.abs(outputs - expected) <= tolerance).all()


@pytest.mark.parametrize("norm", NORMS)
def test_forms_have_the_same_gradients(norm):
    layer = random_layer()
    rng = np.random.default_rng(1)

    def gradients(form):
        def loss(*layer):
            outputs, _ = dynamic_alignment(*layer, norm=norm, stride=2, padding=1, form=form)
            return jnp.sum(outputs * weights)

        weights = rng.normal(size=(2, 3, 3, 3)).astype(np.float32)
        return jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(*layer)

    rng = np.random.default_rng(1)
    factored = gradients("factored")
    rng = np.random.default_rng(1)
    for one, other in zip(factored, gradients("dense"), strict=True):
        # Two orders of summing some hundred float32 products.
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())


@pytest.mark.precision
@pytest.mark.parametrize("norm", NORMS)
def test_symmetric_products_have_all_their_derivatives(norm):
    # Along a direction, and twice: the factored form's own rules against JAX's for the dense form, in float64.
    with jax.enable_x64(True):
        layer, direction = (
            [jnp.asarray(array, jnp.float64) for array in random_layer(size=(3, 3), seed=seed)] for seed in (0, 1)
        )

        def slope(*layer, form):
            def total(*layer):
                return jnp.sum(jnp.sin(dynamic_alignment(*layer, norm=norm, form=form)[0]))

            return jax.jvp(total, layer, tuple(direction))[1]

        factored, dense = (
            jax.jit(jax.value_and_grad(partial(slope, form=form), argnums=(0, 1, 2, 3)))(*layer) for form in FORMS
        )
        for one, other in zip(jax.tree.leaves(factored), jax.tree.leaves(dense), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9 * np.abs(other).max())


def test_known_products_are_used():
    layer = random_layer()
    products = jax.jit(gram)(*layer[2:])
    expected, _ = layer_and_map(*layer)
    outputs, _ = layer_and_map(*layer, products=products)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)  # Another program may sum in another order.
    others, _ = layer_and_map(*layer, products=products._replace(ATA=2 * np.asarray(products.ATA)))
    assert not np.allclose(others, expected)


@pytest.mark.precision
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_patches_of_zeros_give_zero_in_value_and_gradient(form, norm, bias):
    _, B, A, b = random_layer()
    zeros, b = jnp.zeros((1, 5, 6, 4)), b * bias

    def total(inputs, B, A, b):
        return jnp.sum(dynamic_alignment(inputs, B, A, b, norm=norm, padding=1, form=form)[0])

    value, gradients = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2, 3)))(zeros, B, A, b)
    assert value == 0
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    if not bias:
        assert all((np.asarray(gradient) == 0).all() for gradient in gradients)


def test_form_by_cost_and_by_choice():
    assert cheapest_form(patch_values=54, rank=32) == "factored"
    assert cheapest_form(patch_values=54, rank=44) == "dense"
    layer = random_layer()
    by_cost = jax.make_jaxpr(lambda: dynamic_alignment(*layer)[0])()
    chosen = {form: jax.make_jaxpr(lambda form=form: dynamic_alignment(*layer, form=form)[0])() for form in FORMS}
    assert str(by_cost) == str(chosen["factored"]) != str(chosen["dense"])


def test_unknown_norm_and_form():
    layer = random_layer()
    with pytest.raises(InputError, match="norm is 'l1', but must be one of sq, l2"):
        dynamic_alignment(*layer, norm="l1")
    with pytest.raises(InputError, match="form is 'fast', but must be one of factored, dense"):
        dynamic_alignment(*layer, form="fast")


@pytest.fixture(params=["cpu", "accelerator"])
def platform(monkeypatch, request):
    """What is compiled in the test is what that platform is given, though it runs on this machine."""
    if request.param == "accelerator":
        monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, cpu, default: default(*args))


@pytest.mark.precision
@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_sums_in_float32(form, platform):
    # 4096 ones: summed in bfloat16, whose ones stop counting at 256, h and the dot products would be far off.
    p = np.ones((1, 1, 1, 4096), jnp.bfloat16)
    B = np.full((1, 1, 4096, 1), 2.0**-6, jnp.bfloat16)
    A = np.full((1, 1, 4096, 1, 1), 2.0**-8, jnp.bfloat16)
    b = np.zeros((1, 1, 4096, 1), jnp.bfloat16)
    outputs, linear = jax.jit(partial(dynamic_alignment, form=form))(p, B, A, b)
    assert (outputs.dtype, linear.h.dtype, linear.s.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)
    assert linear.h.item() == 64.0
    # v = 2⁻⁸·64 = 1/4 everywhere: ‖v‖² = 4096/16 = 256, s = 16/257, y = 4096/4·16/257.
    np.testing.assert_allclose(linear.s.item(), 16 / 257, rtol=1e-6)
    np.testing.assert_allclose(float(outputs.item()), 1024 * 16 / 257, rtol=2**-8)  # One rounding to bfloat16.


def test_bfloat16_maps_are_summed_in_float32(platform):
    # 129 has just the 8 bits of bfloat16: h = 1, Gh = 129, ‖v‖² = hᵀGh = 129² = 16641, which has 15.
    p = np.ones((1, 1, 1, 1), jnp.bfloat16)
    ones = np.ones((1, 1, 1, 129), jnp.bfloat16)
    outputs, linear = jax.jit(partial(dynamic_alignment, form="factored"))(p, ones, ones[..., None, :], 0 * p)
    np.testing.assert_allclose(linear.s.item(), 129 / 16642, rtol=1e-6)
    np.testing.assert_allclose(float(outputs.item()), 129**2 / 16642, rtol=2**-8)  # One rounding to bfloat16.


@pytest.mark.parametrize(("platform", "of_maps"), [("cpu", "f32"), ("cuda", "bf16"), ("tpu", "bf16")])
def test_bfloat16_maps_only_where_they_are_faster(platform, of_maps):
    inputs, B, A, b = (array.astype(jnp.bfloat16) for array in random_layer(units=3, rank=5))

    def total(inputs, B, A, b):
        return jnp.sum(dynamic_alignment(inputs, B, A, b)[0])

    for function in (total, jax.grad(total, argnums=(0, 1, 2, 3))):
        lowered = jax.jit(function).trace(inputs, B, A, b).lower(lowering_platforms=(platform,))
        # A row for each of 2·3·4 positions, a column for each unit and rank.
        assert set(re.findall(r"dot_general.*-> tensor<24x15x(\w+)>", lowered.as_text())) == {of_maps}


def test_on_a_cpu_the_gradient_of_bfloat16_multiplies_in_bfloat16():
    inputs, B, A, b = (array.astype(jnp.bfloat16) for array in random_layer(units=3, rank=5))
    gradient = jax.grad(lambda *layer: jnp.sum(dynamic_alignment(*layer)[0]), argnums=(0, 1, 2, 3))
    lowered = jax.jit(gradient).trace(inputs, B, A, b).lower(lowering_platforms=("cpu",)).as_text()
    # Of matrices with the 15 columns of three units of rank 5: Aᵀp and Gh, and the gradients by p, A and G.
    factors = re.findall(r"dot_general.*: \((tensor<\d+x\d+x\w+>), (tensor<\d+x\d+x\w+>)\)", lowered)
    of_maps = [pair for pair in factors if "x15x" in "".join(pair)]
    assert len(of_maps) == 5 and all(factor.endswith("xbf16>") for pair in of_maps for factor in pair)


@pytest.mark.parametrize("form", FORMS)
def test_on_a_cpu_gradients_of_bfloat16_are_near_those_of_float32(form):
    layer = random_layer(units=3, rank=5)
    weights = np.random.default_rng(1).normal(size=(2, 3, 4, 3)).astype(np.float32)

    @jax.jit
    def gradients(*layer):
        return jax.grad(lambda layer: jnp.sum(dynamic_alignment(*layer, form=form)[0] * weights))(layer)

    for found, expected in zip(
        gradients(*(array.astype(jnp.bfloat16) for array in layer)), gradients(*layer), strict=True
    ):
        # bfloat16 keeps 8 bits: 2⁻⁹ relative at each of about five roundings.
        np.testing.assert_allclose(found.astype(np.float32), expected, rtol=0, atol=2e-2 * np.abs(expected).max())


def test_rounding_to_bfloat16():
    numbers = np.array([1.0, 1 + 2**-9, 1 + 2**-8, -1 - 2**-8, 1 + 2**-8 + 2**-9, 3e38, np.inf, -np.inf, np.nan, 0.0])
    rounded = np.asarray(jax.jit(dau._rounded)(numbers.astype(np.float32)), np.float64)
    # Ones that end with 2⁻⁷, the last of 8 bits; the largest number of bfloat16 is 3.39e38.
    largest = float(jnp.asarray(3e38, jnp.bfloat16))
    expected = [1, 1, 1 + 2**-7, -1 - 2**-7, 1 + 2**-7, largest, np.inf, -np.inf, np.nan, 0]
    np.testing.assert_array_equal(rounded, expected)


@pytest.fixture(params=[("sq", 1, 1, 5), ("l2", 2, 0, 5), ("sq", 2, 2, 20)], ids=str)
def linear(request):
    """(inputs, outputs, DynamicLinear) of a random layer."""
    norm, stride, padding, rank = request.param
    layer = random_layer(rank=rank, seed=3)
    return layer[0], *layer_and_map(*layer, norm=norm, stride=stride, padding=padding)


def test_apply_and_dense_give_the_outputs(linear):
    inputs, outputs, map_ = linear
    np.testing.assert_allclose(apply(map_, inputs), outputs, rtol=1e-5, atol=1e-5)
    product = np.einsum("nxykhwc,nhwc->nxyk", dense(map_), inputs)
    np.testing.assert_allclose(product, outputs, rtol=1e-5, atol=1e-5)


def test_apply_holds_the_weights_fixed(linear):
    inputs, outputs, map_ = linear
    np.testing.assert_allclose(apply(map_, 3 * inputs), 3 * np.asarray(outputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("targets", [1, 3])  # Three make `transpose` build the weights where the rank is 20.
def test_transpose_is_the_transposed_matrix(linear, targets):
    inputs, outputs, map_ = linear
    rng = np.random.default_rng(0)
    cotangents = rng.normal(size=(2, targets, *outputs.shape[1:])).astype(np.float32)
    pulled = transpose(map_, cotangents)
    assert pulled.shape == (2, targets, *inputs.shape[1:])
    np.testing.assert_allclose(pulled, np.einsum("nxykhwc,ntxyk->nthwc", dense(map_), cotangents), rtol=1e-4, atol=1e-5)


def test_map_is_a_pytree():
    layer = random_layer()
    outputs, linear = layer_and_map(*layer)
    assert isinstance(linear, DynamicLinear)
    np.testing.assert_allclose(apply(linear, layer[0]), outputs, rtol=1e-5, atol=1e-5)
