import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from benchmarks import fused_alignment
from benchmarks.fused_alignment import fused_alignment_and_norm
from coda_jax import chunks
from coda_jax.alignment import dau
from coda_jax.alignment.dau import dense_alignment, dynamic_alignment

# P, d, K, r: alone, odd and small, S-CoDA's first layer with ten units, and with several tiles on every axis.
SHAPES = [(1, 1, 1, 1), (5, 7, 3, 2), (33, 54, 10, 32), (300, 70, 20, 70), (600, 20, 16, 17)]


@pytest.fixture(autouse=True)
def exact_products():
    """A GPU would round the factors of float32 products, by more than the tolerances below."""
    with jax.default_matmul_precision("highest"):
        yield


def argument_shapes(positions, d, units, rank):
    """Those of p, h, A and b."""
    return (positions, d), (positions, rank), (d, units, rank), (d, units)


def random_arguments(shape, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=size), dtype) for size in argument_shapes(*shape)]


def gradients(function, arguments):
    """Of a random weighting of both results, by all four arguments."""

    def loss(*arguments):
        rng = np.random.default_rng(1)
        return sum(jnp.sum(result * rng.normal(size=result.shape)) for result in function(*arguments))

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(*arguments)


def assert_close(results, expected, tolerance):
    """Up to a fraction of the largest value: sums that cancel are as inexact as their terms."""
    for result, other in zip(results, expected, strict=True):
        result, other = np.asarray(result, np.float64), np.asarray(other, np.float64)
        np.testing.assert_allclose(result, other, rtol=0, atol=tolerance * np.abs(other).max())


@pytest.mark.parametrize("function", [dense_alignment, fused_alignment_and_norm])
def test_one_unit_by_hand(function):
    # v = (3, 0)·1 + (0, 4) = (3, 4); vᵀp = 3·1 + 4·2 = 11; ‖v‖² = 9 + 16 = 25.
    p, h = jnp.array([[1.0, 2.0]]), jnp.array([[1.0]])
    A, b = jnp.array([3.0, 0.0]).reshape(2, 1, 1), jnp.array([[0.0], [4.0]])
    alignment, squared_norm = function(p, h, A, b)
    assert (alignment.item(), squared_norm.item()) == (11, 25)
    # Of their sum: p̄ = v; v̄ = p + 2v = (7, 10), and v = A h + b, so h̄ = Aᵀv̄ = 21, Ā = v̄ h, b̄ = v̄.
    by_p, by_h, by_A, by_b = jax.grad(lambda *arguments: sum(map(jnp.sum, function(*arguments))), (0, 1, 2, 3))(
        p, h, A, b
    )
    assert by_p.tolist() == [[3, 4]]
    assert by_h.tolist() == [[21]]
    assert by_A.ravel().tolist() == by_b.ravel().tolist() == [7, 10]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fused_is_dense(shape):
    arguments = random_arguments(shape)
    # Two orders of summing at most 600 · 20 products in float32, each rounded by 6e-8.
    assert_close(jax.jit(fused_alignment_and_norm)(*arguments), dense_alignment(*arguments), 5e-6)
    assert_close(gradients(fused_alignment_and_norm, arguments), gradients(dense_alignment, arguments), 5e-6)


def test_bfloat16_sums_in_float32():
    arguments = random_arguments((33, 54, 10, 32), jnp.bfloat16)
    in_float32 = [argument.astype(jnp.float32) for argument in arguments]
    results = fused_alignment_and_norm(*arguments)
    assert [result.dtype for result in results] == [jnp.float32, jnp.float32]
    assert_close(results, dense_alignment(*in_float32), 5e-6)  # The products of two bfloat16s are exact.
    fused = gradients(fused_alignment_and_norm, arguments)
    assert all(gradient.dtype == jnp.bfloat16 for gradient in fused)
    # A gradient is a sum of two or three terms, each made of factors rounded to bfloat16, by 2⁻⁹, and rounded itself.
    assert_close(fused, gradients(dense_alignment, in_float32), 2**-7)


def test_float64_stays_float64():
    with jax.enable_x64(True):
        arguments = random_arguments((5, 7, 3, 2), np.float64)
        assert_close(fused_alignment_and_norm(*arguments), dense_alignment(*arguments), 1e-14)


def test_patches_of_zeros_give_zero_in_value_and_gradient():
    p, h, A, b = random_arguments((5, 7, 3, 2))
    zeros = 0 * p, 0 * h, A, 0 * b
    assert all((result == 0).all() for result in fused_alignment_and_norm(*zeros))
    assert all((gradient == 0).all() for gradient in gradients(fused_alignment_and_norm, zeros))


def test_vmap_over_inputs():
    p, h, A, b = random_arguments((6, 7, 3, 2))
    mapped = jax.vmap(fused_alignment_and_norm, in_axes=(0, 0, None, None))(
        p.reshape(2, 3, 7), h.reshape(2, 3, 2), A, b
    )
    expected = dense_alignment(p, h, A, b)
    assert_close([result.reshape(6, 3) for result in mapped], expected, 5e-6)


def largest_array(jaxpr):
    """The number of values in the largest array that the program makes outside its kernels."""
    largest = 0
    for equation in jaxpr.eqns:
        largest = max([largest, *(variable.aval.size for variable in equation.outvars)])
        if equation.primitive.name != "pallas_call":
            parameters = jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns"))
            largest = max([largest, *(largest_array(inner) for inner in parameters if hasattr(inner, "eqns"))])
    return largest


def test_no_array_has_a_map_for_every_rank_and_unit():
    shape = positions, d, units, rank = 4096, 64, 16, 32
    arguments = [jax.ShapeDtypeStruct(size, jnp.float32) for size in argument_shapes(*shape)]

    def largest(function):
        return largest_array(jax.make_jaxpr(lambda *arguments: gradients(function, arguments))(*arguments))

    assert largest(dense_alignment) == positions * d * units
    assert largest(fused_alignment_and_norm) < positions * rank * units / 2


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    "shape", [(16384, 54, 16, 32), (4096, 144, 32, 64), (1024, 576, 64, 64), (1024, 64, 10, 64)], ids=str
)
def test_kernels_of_s_coda_lower_for_a_gpu(shape, dtype):
    arguments = [jax.ShapeDtypeStruct(size, dtype) for size in argument_shapes(*shape)]
    h100 = AbstractDevice(device_kind="NVIDIA H100", num_cores=132, platform="gpu")

    def results_and_gradients(*arguments):
        return fused_alignment_and_norm(*arguments), gradients(fused_alignment_and_norm, arguments)

    with use_abstract_mesh(AbstractMesh((), (), abstract_device=h100)), jax.default_matmul_precision("default"):
        program = jax.jit(results_and_gradients).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
    # Alignment and norm are a form each, and each form has three derivatives.
    assert program.count("@__gpu$xla.gpu.triton") == 8


def test_layers_use_the_kernels(monkeypatch):
    rng = np.random.default_rng(0)
    shapes = (2, 6, 6, 4), (3, 3, 4, 5), (3, 3, 4, 7, 5), (3, 3, 4, 7)
    layer = [jnp.asarray(rng.normal(size=shape), np.float32) for shape in shapes]

    def results(form):
        def loss(*layer):
            outputs, linear = dynamic_alignment(*layer, padding=1, form=form)
            return jnp.sum(outputs**2), linear

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True))(*layer)

    dense = results("dense")
    for module, name in ((dau, "cheapest_form"), (dau, "factored_alignment"), (chunks, "examples_at_once")):
        monkeypatch.setattr(module, name, getattr(module, name))  # To be put back after the test.
    fused_alignment.use_in_all_layers()
    assert "pallas_call" in str(jax.make_jaxpr(lambda *layer: dynamic_alignment(*layer, padding=1)[0])(*layer))
    for fused, other in zip(*map(jax.tree.leaves, (results(None), dense)), strict=True):
        # Two orders of summing some hundred float32 products.
        np.testing.assert_allclose(fused, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())
