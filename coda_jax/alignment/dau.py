"""Dynamic alignment units (DAUs) as pure array functions, and the linear map that a layer of them is.

For one position with the zero-padded patch `p` (`d = k·k·C` values) a layer of `K` units of rank `r` computes
(Böhle, Fritz, Schiele, CVPR 2021, arXiv 2104.00032; the units share `B`)

    h   = B p                     [r]
    v_j = A_j h + b_j             [d]    the dynamic weight before rescaling
    w_j = s_j v_j                        s = ‖v‖/(1+‖v‖²) ("sq": ‖w‖ < 1)  or  1/‖v‖ ("l2": ‖w‖ = 1)
    y_j = w_jᵀ p

`dense_alignment` computes `v_jᵀp` and `‖v_j‖²` just so. `factored_alignment` never builds `v`:
`v_jᵀp = hᵀ(A_jᵀp) + b_jᵀp`, and `‖v_j‖² = hᵀG_jh + 2(A_jᵀb_j)ᵀh + ‖b_j‖²` with `G_j = A_jᵀA_j`. Either way `(h, s)`
together with the parameters are the input-dependent weights in factored form: `DynamicLinear` holds them and applies
them in either direction.

Layers work on a few examples at a time (`chunks.py`) and compute their maps of `r·K` values a position again in
the backward pass. docs/performance.md says what that brings.

Axes in the einsums below: n batch, t target, x and y position, i and j and c place and channel in the patch, d all
values of a patch, p all positions, k unit, r and q rank.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from coda_jax.alignment.chunks import map_in_chunks
from coda_jax.alignment.patches import extract_patches, fold_patches, output_size
from coda_jax.errors.checks import check_choice

NORMS = ("sq", "l2")
FORMS = ("factored", "dense")


def accumulation_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """The dtype in which `dtype` values are summed: float32 at least."""
    return jnp.promote_types(dtype, jnp.float32)


def rescaling(squared_norm: jax.Array, norm: str) -> jax.Array:
    """The factor `s` that turns `v` into the dynamic weight `w = s·v`, from `‖v‖²` of any shape.

    Where `‖v‖²` is zero (or, by rounding, below), so are `s` and its derivative.
    """
    nonzero = squared_norm > 0
    # The inner where keeps the square root's infinite slope at 0 out of the gradient.
    length = jnp.sqrt(jnp.where(nonzero, squared_norm, 1))
    scale = length / (1 + squared_norm) if norm == "sq" else 1 / length
    return jnp.where(nonzero, scale, 0)


def dense_alignment(p: jax.Array, h: jax.Array, A: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`v_jᵀp` and `‖v_j‖²` of a layer's units, both [P, K], building the dynamic weight `v` at every position.

    The arguments, p [P, d], h [P, r], A [d, K, r] and b [d, K], have one dtype: float32, bfloat16 or float64. That of
    the results is its `accumulation_dtype`.
    """
    dtype = accumulation_dtype(p.dtype)
    v = jnp.matmul(h, A.reshape(-1, A.shape[-1]).T, preferred_element_type=dtype).reshape(-1, *b.shape) + b
    return jnp.sum(v * p[..., None], axis=1), jnp.sum(v * v, axis=1)


class Gram(NamedTuple):
    """What `‖v‖²` needs of the parameters alone in the factored form.

    `ATA` is `A_jᵀA_j`, [r, K, r], in the parameters' dtype; `ATb` is `A_jᵀb_j`, [r, K], and `bTb` is `‖b_j‖²`, [K],
    both in float32 at least.
    """

    ATA: jax.Array
    ATb: jax.Array
    bTb: jax.Array  # noqa: N815


def gram(A: jax.Array, b: jax.Array) -> Gram:
    """The `Gram` of A [..., K, r] and b [..., K], whose first axes are those of a patch."""
    dtype = accumulation_dtype(A.dtype)
    A, b = A.reshape(-1, *A.shape[-2:]), b.reshape(-1, b.shape[-1])
    # Sums, for XLA would transpose all of A for a product.
    in_sums = b.astype(dtype)
    ATb = jnp.sum(A.astype(dtype) * in_sums[:, :, None], axis=0).T
    return Gram(_symmetric_products(A), ATb, jnp.sum(in_sums * in_sums, axis=0))


def _products_within_units(left: jax.Array, right: jax.Array) -> jax.Array:
    """`left_jᵀ right_j` for all units: [d, K, r], [d, K, q] -> [r, K, q]."""
    dtype = accumulation_dtype(left.dtype)
    products = jnp.einsum("dkr,dkq->krq", left, right, preferred_element_type=dtype)
    return products.astype(left.dtype).swapaxes(0, 1)


# AᵀA and hᵀGh are symmetric, which differentiation by JAX's own rules does not see: it would make every product twice.
@jax.custom_jvp
def _symmetric_products(A: jax.Array) -> jax.Array:
    """`A_jᵀA_j`: [d, K, r] -> [r, K, r]."""
    return _products_within_units(A, A)


@_symmetric_products.defjvp
def _(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (A,), (dA,) = primals, tangents
    half = _products_within_units(dA, A)
    return _symmetric_products(A), half + half.swapaxes(0, 2)


def _transposed(matrix: jax.Array) -> jax.Array:
    """A copy that XLA does not know to be a transpose: on a CPU it multiplies those in float32, at half the speed."""
    half = len(matrix) // 2
    return jnp.concatenate([matrix[:half].T, matrix[half:].T], axis=1)


def _rounded(array: jax.Array) -> jax.Array:
    """float32 rounded to bfloat16, ties away from zero, by its bits: XLA's conversion takes a CPU twice as long."""
    bits = (lax.bitcast_convert_type(array, jnp.uint32) + 0x8000) >> 16
    return lax.bitcast_convert_type(bits.astype(jnp.uint16), jnp.bfloat16)


@jax.custom_vjp
def _product_on_cpu(left: jax.Array, right: jax.Array) -> jax.Array:
    """`left right` of bfloat16 matrices, in float32.

    The gradient that JAX derives multiplies the float32 cotangent, and CPUs that are fast in bfloat16 are not in that.
    """
    return jnp.matmul(left, right, preferred_element_type=jnp.float32)


def _product_forward(left: jax.Array, right: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _product_on_cpu(left, right), (left, right)


def _product_backward(factors: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    left, right = factors
    cotangent = _rounded(cotangent)
    of_left = lax.dot_general(cotangent, right, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)
    of_right = _product_on_cpu(_transposed(left), cotangent)
    return of_left.astype(left.dtype), of_right.astype(left.dtype)


_product_on_cpu.defvjp(_product_forward, _product_backward)


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    """`left right` of matrices of one dtype, in its `accumulation_dtype`."""
    multiply = partial(jnp.matmul, preferred_element_type=accumulation_dtype(left.dtype))
    if left.dtype != jnp.bfloat16:
        return multiply(left, right)
    return lax.platform_dependent(left, right, cpu=_product_on_cpu, default=multiply)


def _per_unit(p: jax.Array, A: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """`A_jᵀp` for all units, in `dtype`: [P, d], [d, K, r] -> [P, K, r]."""
    # As matrices, which XLA compiles to faster code than products of more axes.
    matrix = A.reshape(A.shape[0], -1)
    in_accumulation_dtype = dtype == accumulation_dtype(p.dtype)
    of_all = _product(p, matrix) if in_accumulation_dtype else jnp.matmul(p, matrix, preferred_element_type=dtype)
    return of_all.reshape(-1, *A.shape[1:])


def _dot_per_unit(u: jax.Array, h: jax.Array) -> jax.Array:
    """`u_jᵀh` for all units: [P, K, r], [P, r] -> [P, K]."""
    return jnp.einsum("pkr,pr->pk", u, h.astype(u.dtype), preferred_element_type=accumulation_dtype(u.dtype))


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _quadratic_form(h: jax.Array, G: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """`hᵀG_jh` for symmetric `G_j`, by way of `G_jh` in `dtype`: [P, r], [r, K, r] -> [P, K]."""
    return _dot_per_unit(_per_unit(h, G, dtype), h)


@_quadratic_form.defjvp
def _(
    dtype: jnp.dtype, primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (h, G), (dh, dG) = primals, tangents
    Gh = _per_unit(h, G, dtype)
    return _dot_per_unit(Gh, h), 2 * _dot_per_unit(Gh, dh) + _dot_per_unit(_per_unit(h, dG, dtype), h)


@jax.custom_vjp
def _quadratic_form_on_cpu(h: jax.Array, G: jax.Array) -> jax.Array:
    """`_quadratic_form` of bfloat16 factors, by way of `G_jh` in float32."""
    return _quadratic_form_forward(h, G)[0]


def _quadratic_form_forward(h: jax.Array, G: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    Gh = _per_unit(h, G, jnp.float32)
    return _dot_per_unit(Gh, h), (h, Gh)


def _quadratic_form_backward(saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    h, Gh = saved
    of_h = 2 * jnp.einsum("pk,pkr->pr", g, Gh)
    outer = _rounded(g[:, :, None] * h.astype(g.dtype)[:, None])
    of_G = _product_on_cpu(_transposed(h), outer.reshape(len(h), -1))
    return of_h.astype(h.dtype), of_G.astype(h.dtype).reshape(-1, *Gh.shape[1:])


_quadratic_form_on_cpu.defvjp(_quadratic_form_forward, _quadratic_form_backward)


def _by_maps_in(
    dtype: jnp.dtype, p: jax.Array, h: jax.Array, A: jax.Array, G: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """`hᵀA_jᵀp` and `hᵀG_jh`, both [P, K], by maps of `A_jᵀp` and `G_jh` in `dtype`; their sums are in float32."""
    hGh = _quadratic_form_on_cpu(h, G) if dtype != h.dtype else _quadratic_form(h, G, dtype)
    return _dot_per_unit(_per_unit(p, A, dtype), h), hGh


def factored_alignment(
    p: jax.Array, h: jax.Array, A: jax.Array, b: jax.Array, products: Gram
) -> tuple[jax.Array, jax.Array]:
    """The same without building `v`, by `products = gram(A, b)`. Rounding can leave a norm a little below zero."""
    dtype = accumulation_dtype(p.dtype)
    factors = p, h, A, products.ATA
    if p.dtype == dtype:
        hAp, hGh = _by_maps_in(dtype, *factors)
    else:
        # Maps in bfloat16 are half of the memory traffic, which limits accelerators. A CPU takes longer for them.
        in_float32, in_bfloat16 = (partial(_by_maps_in, maps) for maps in (dtype, p.dtype))
        hAp, hGh = lax.platform_dependent(*factors, cpu=in_float32, default=in_bfloat16)
    alignment = hAp + _product(p, b)
    squared_norm = hGh + 2 * jnp.matmul(h.astype(dtype), products.ATb) + products.bTb
    return alignment, squared_norm


def cheapest_form(patch_values: int, rank: int) -> str:
    """The faster form of two for a patch of `d` values: "dense" where `d ≤ 1.25 r`, else "factored".

    The dense form spares the products with `G` but passes over `d·K` values a position rather than `2·r·K`. On two CPU
    cores both cost the same between d = 1.1 r and 1.5 r.
    """
    return "dense" if 4 * patch_values <= 5 * rank else "factored"


def dense_matrix(apply: Callable[[jax.Array], jax.Array], input_shape: tuple[int, ...]) -> jax.Array:
    """The matrices of linear maps of N inputs [N, H, W, C] to [N, ...], column by column: [N, ..., H, W, C]."""
    examples, *shape = input_shape
    columns = jnp.eye(math.prod(shape)).reshape(-1, *shape)
    matrix = jax.vmap(lambda column: apply(jnp.broadcast_to(column, (examples, *shape))), out_axes=-1)(columns)
    return matrix.reshape(*matrix.shape[:-1], *shape)


@struct.dataclass
class DynamicLinear:
    """The linear map that a layer of DAUs applied to one batch of inputs, with its weights in factored form.

    The factors are the layer's parameters `A` [k, k, C, K, r] and `b` [k, k, C, K]; `h` [N, Ho, Wo, r], the patches
    projected by `B`; and `s` [N, Ho, Wo, K], the rescaling of each unit's dynamic weight. `input_size` is (H, W) of the
    layer's input; like `stride` and `padding` it is in pixels.
    """

    A: jax.Array
    b: jax.Array
    h: jax.Array
    s: jax.Array
    input_size: tuple[int, int] = struct.field(pytree_node=False)
    stride: int = struct.field(pytree_node=False)
    padding: int = struct.field(pytree_node=False)

    def apply(self, inputs: jax.Array) -> jax.Array:
        """`W x` with the weights held fixed: [N, H, W, C] -> [N, Ho, Wo, K]."""
        patches = extract_patches(inputs, self.A.shape[0], self.stride, self.padding)
        ATp = jnp.einsum("nxyijc,ijckr->nxykr", patches, self.A, preferred_element_type=self.s.dtype)
        bTp = jnp.einsum("nxyijc,ijck->nxyk", patches, self.b, preferred_element_type=self.s.dtype)
        return (jnp.sum(ATp * self.h[..., None, :], axis=-1) + bTp) * self.s

    def transpose(self, cotangents: jax.Array) -> jax.Array:
        """`Wᵀ ȳ` for T cotangents an example: [N, T, Ho, Wo, K] -> [N, T, H, W, C]."""
        targets, rank, positions = cotangents.shape[1], self.h.shape[-1], self.h[0, :, :, 0].size
        if targets > 2 and rank > 16:
            pull_back, values = self._pull_back_weights, positions * self.b.size
        else:
            pull_back, values = self._pull_back_factors, positions * targets * self.A[0, 0, 0].size
        scaled = (cotangents * self.s[:, None]).astype(self.h.dtype)

        def to_inputs(batch: tuple[jax.Array, jax.Array]) -> jax.Array:
            patches = pull_back(*batch).reshape(-1, *self.s.shape[1:3], *self.A.shape[:3])
            folded = fold_patches(patches, self.input_size, self.stride, self.padding)
            return folded.reshape(-1, targets, *folded.shape[1:])

        return map_in_chunks(to_inputs, (scaled, self.h), values)

    def dense(self) -> jax.Array:
        """The whole matrix, mostly zeros: [N, Ho, Wo, K, H, W, C], for tests and for looking at small layers."""
        return dense_matrix(self.apply, (len(self.s), *self.input_size, self.A.shape[2]))

    def _pull_back_factors(self, scaled: jax.Array, h: jax.Array) -> jax.Array:
        """`Σ_j A_j(ȳ_j s_j h) + b_j ȳ_j s_j`: scaled [n, T, Ho, Wo, K], h [n, Ho, Wo, r] -> [n·T·Ho·Wo, d]."""
        A, b = self.A.reshape(self.b[..., 0].size, -1), self.b.reshape(-1, self.b.shape[-1])
        # With few axes XLA compiles the product's gradient to code that is up to three times as fast.
        of_targets = jnp.broadcast_to(h[:, None], (*scaled.shape[:-1], h.shape[-1])).reshape(-1, 1, h.shape[-1])
        scaled = scaled.reshape(-1, b.shape[1])
        outer = (scaled[:, :, None] * of_targets).reshape(-1, A.shape[1])
        patches = jnp.matmul(outer, A.T, preferred_element_type=self.s.dtype)
        return patches + jnp.matmul(scaled, b.T, preferred_element_type=self.s.dtype)

    def _pull_back_weights(self, scaled: jax.Array, h: jax.Array) -> jax.Array:
        """The same, building `v`: one product of `d·K·r` values a position for all targets."""
        v = jnp.einsum("nxyr,ijckr->nxyijck", h, self.A, preferred_element_type=self.s.dtype) + self.b
        return jnp.einsum("nxyijck,ntxyk->ntxyijc", v.astype(h.dtype), scaled, preferred_element_type=self.s.dtype)


def dynamic_alignment(
    inputs: jax.Array,
    B: jax.Array,
    A: jax.Array,
    b: jax.Array,
    *,
    norm: str = "sq",
    stride: int = 1,
    padding: int = 0,
    form: str | None = None,
    products: Gram | None = None,
) -> tuple[jax.Array, DynamicLinear]:
    """A convolutional layer of dynamic alignment units: its outputs, and the linear map that made them.

    The inputs are [N, H, W, C], in float32, bfloat16 or float64. The parameters `B` [k, k, C, r], `A` [k, k, C, K, r]
    and `b` [k, k, C, K] have the same dtype, and so have the outputs [N, Ho, Wo, K], which are
    `linear_map.apply(inputs)`.

    The norm is "sq" or "l2"; stride and padding are in pixels. The form is "factored", "dense", or None for the cheaper
    of the two. `products` is `gram(A, b)`; with it the factored form need not compute it. An unknown norm or form, or a
    kernel of more pixels than the padded input, raises InputError.
    """
    kernel_size, patch_values, (features, rank) = B.shape[0], b[..., 0].size, A.shape[3:]
    check_choice("norm", norm, NORMS)
    if form is None:
        form = cheapest_form(patch_values, rank)
    check_choice("form", form, FORMS)
    parameters: tuple[jax.Array | Gram, ...] = A.reshape(patch_values, features, rank), b.reshape(patch_values, -1)
    if form == "factored":
        alignment_and_norm, values = factored_alignment, features * rank
        parameters += (gram(A, b) if products is None else products,)
    else:
        alignment_and_norm, values = dense_alignment, features * patch_values
    rows, columns = (output_size(size, kernel_size, stride, padding) for size in inputs.shape[1:3])

    def layer(inputs: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        p = extract_patches(inputs, kernel_size, stride, padding).reshape(-1, patch_values)
        h = _product(p, B.reshape(patch_values, rank)).astype(p.dtype)
        alignment, squared_norm = alignment_and_norm(p, h, *parameters)
        s = rescaling(squared_norm, norm)
        return tuple(array.reshape(-1, rows, columns, array.shape[-1]) for array in (alignment * s, h, s))

    outputs, h, s = map_in_chunks(layer, inputs, rows * columns * values)
    return outputs.astype(inputs.dtype), DynamicLinear(A, b, h, s, inputs.shape[1:3], stride, padding)
