"""Dynamic alignment units (DAUs) as pure array functions, and the linear map that a layer of them is.

For one position with the zero-padded patch `p` (`d = k·k·C` values) a layer of `K` units of rank `r` computes
(Böhle, Fritz, Schiele, CVPR 2021, arXiv 2104.00032; the units share `B`)

    h   = B p                     [r]
    v_j = A_j h + b_j             [d]    the dynamic weight before rescaling
    w_j = s_j v_j                        s = ‖v‖/(1+‖v‖²) ("sq": ‖w‖ < 1)  or  1/‖v‖ ("l2": ‖w‖ = 1)
    y_j = w_jᵀ p

`dense_units` computes exactly that. `factored_units` never builds `v`: `v_jᵀp = hᵀ(A_jᵀp) + b_jᵀp`, and
`‖v_j‖² = hᵀ(A_jᵀA_j)h + 2(A_jᵀb_j)ᵀh + ‖b_j‖²`. In both, `(h, s)` together with the parameters are the
input-dependent weights in factored form: `DynamicLinear` holds them and applies them in either direction.

Axes in the einsums below: n batch, t target, x and y position, i and j and c place and channel in the patch,
k unit, r and q rank.
"""

import jax
import jax.numpy as jnp
from flax import struct

from coda_jax.errors import InputError
from coda_jax.patches import extract_patches, fold_patches

NORMS = ("sq", "l2")
FORMS = ("factored", "dense")


def accumulation_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """The dtype in which dot products and norms of `dtype` values are summed: at least float32."""
    return jnp.promote_types(dtype, jnp.float32)


def rescaling(squared_norm: jax.Array, norm: str) -> jax.Array:
    """The factor `s` that turns `v` into the dynamic weight `w = s·v`, from `‖v‖²`.

    Where `‖v‖²` is zero, so are `s` and its derivative.

    Args:
        squared_norm: `‖v‖²`, any shape, floating.
        norm: "sq" for ‖v‖/(1+‖v‖²) or "l2" for 1/‖v‖.
    """
    nonzero = squared_norm > 0
    # The inner where keeps the square root's infinite slope at 0 out of the gradient.
    length = jnp.sqrt(jnp.where(nonzero, squared_norm, 1))
    scale = length / (1 + squared_norm) if norm == "sq" else 1 / length
    return jnp.where(nonzero, scale, 0)


def dense_units(
    patches: jax.Array, B: jax.Array, A: jax.Array, b: jax.Array, norm: str
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A layer's outputs, building the dynamic weight `v` at every position.

    Args:
        patches: [N, Ho, Wo, k, k, C], float32, bfloat16 or float64.
        B: [k, k, C, r], the patches' dtype.
        A: [k, k, C, K, r], likewise.
        b: [k, k, C, K], likewise.
        norm: "sq" or "l2".

    Returns:
        (y [N, Ho, Wo, K], h [N, Ho, Wo, r], s [N, Ho, Wo, K]); `h` in the patches' dtype, `y` and `s` in the
        dtype that `accumulation_dtype` gives for it.
    """
    dtype = accumulation_dtype(patches.dtype)
    h = jnp.einsum("nxyijc,ijcr->nxyr", patches, B, preferred_element_type=dtype).astype(patches.dtype)
    v = jnp.einsum("nxyr,ijckr->nxyijck", h, A, preferred_element_type=dtype) + b
    s = rescaling(jnp.sum(v * v, axis=(3, 4, 5)), norm)
    return jnp.sum(v * patches[..., None], axis=(3, 4, 5)) * s, h, s


def factored_units(
    patches: jax.Array, B: jax.Array, A: jax.Array, b: jax.Array, norm: str
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A layer's outputs without ever building a dynamic weight; arguments and result as `dense_units`."""
    dtype = accumulation_dtype(patches.dtype)

    def matmul(left: jax.Array, right: jax.Array) -> jax.Array:
        return jnp.matmul(left, right, preferred_element_type=dtype)

    # Matrices all through: XLA differentiates and compiles these products faster than those of 6 and 5 axes.
    positions = patches.shape[:3]
    units, rank = A.shape[3:]
    p = patches.reshape(-1, b[..., 0].size)
    B, A, b = B.reshape(-1, rank), A.reshape(-1, units * rank), b.reshape(-1, units)

    h = matmul(p, B).astype(patches.dtype)
    per_unit = h[:, None]
    ATp = matmul(p, A).reshape(-1, units, rank)
    alignment = jnp.sum(ATp * per_unit, axis=-1) + matmul(p, b)

    A = A.reshape(-1, units, rank)
    ATA = jnp.einsum("dkr,dkq->rkq", A, A, preferred_element_type=dtype).astype(patches.dtype)
    ATb = jnp.einsum("dkr,dk->kr", A, b, preferred_element_type=dtype)
    bTb = jnp.einsum("dk,dk->k", b, b, preferred_element_type=dtype)
    ATAh = matmul(h, ATA.reshape(rank, -1)).reshape(-1, units, rank)
    # Rounding can leave a tiny negative number where the norm is zero; `rescaling` takes it for zero.
    s = rescaling(jnp.sum((ATAh + 2 * ATb) * per_unit, axis=-1) + bTb, norm)
    return tuple(array.reshape(*positions, -1) for array in (alignment * s, h, s))


def cheapest_form(patch_values: int, rank: int) -> str:
    """The faster of the two forms for a patch of `d` values: "dense" where `d ≤ 1.5 r`, else "factored".

    Both are bound by the maps that they write at each position: `d·K` values, or `2·r·K` that are cheaper to
    make. Measured on two CPU cores, forward and backward cost the same at d = 1.7 r.
    """
    return "dense" if 2 * patch_values <= 3 * rank else "factored"


@struct.dataclass
class DynamicLinear:
    """The linear map that a layer of DAUs applied to one batch of inputs, with its weights in factored form.

    Attributes:
        A, b: the layer's parameters, [k, k, C, K, r] and [k, k, C, K].
        h: [N, Ho, Wo, r], the patches projected by `B`.
        s: [N, Ho, Wo, K], the rescaling of each unit's dynamic weight.
        input_size: (H, W) of the layer's input, in pixels.
        stride, padding: the layer's geometry, in pixels.
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
        """`Wᵀ ȳ` for T cotangents an example: [N, T, Ho, Wo, K] -> [N, T, H, W, C].

        `v` is built where that is cheaper: once for all targets, against a product of `r·K` values for each.
        """
        scaled = (cotangents * self.s[:, None]).astype(self.h.dtype)
        targets, rank, patch_values = cotangents.shape[1], self.h.shape[-1], self.b[..., 0].size
        if targets > 1 and targets * rank > patch_values:
            v = self._unscaled_weights().astype(self.h.dtype)
            patches = jnp.einsum("nxyijck,ntxyk->ntxyijc", v, scaled, preferred_element_type=self.s.dtype)
        else:
            outer = scaled[..., None] * self.h[:, None, :, :, None, :]
            patches = jnp.einsum("ntxykr,ijckr->ntxyijc", outer, self.A, preferred_element_type=self.s.dtype)
            patches += jnp.einsum("ntxyk,ijck->ntxyijc", scaled, self.b, preferred_element_type=self.s.dtype)
        folded = fold_patches(patches.reshape(-1, *patches.shape[2:]), self.input_size, self.stride, self.padding)
        return folded.reshape(*cotangents.shape[:2], *folded.shape[1:])

    def dense(self) -> jax.Array:
        """The whole matrix, mostly zeros: [N, Ho, Wo, K, H, W, C]. For tests and for looking at small layers."""
        weights = self._unscaled_weights() * self.s[:, :, :, None, None, None, :]

        def reached(size: int, positions: int) -> jax.Array:
            pixel = jnp.arange(positions)[:, None] * self.stride + jnp.arange(self.A.shape[0]) - self.padding
            return jax.nn.one_hot(pixel, size, dtype=weights.dtype)

        height, width = self.input_size
        rows, columns = reached(height, self.s.shape[1]), reached(width, self.s.shape[2])
        return jnp.einsum("nxyijck,xih,yjw->nxykhwc", weights, rows, columns)

    def _unscaled_weights(self) -> jax.Array:
        """The dynamic weights before rescaling, `v`: [N, Ho, Wo, k, k, C, K]."""
        return jnp.einsum("nxyr,ijckr->nxyijck", self.h, self.A, preferred_element_type=self.s.dtype) + self.b


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
) -> tuple[jax.Array, DynamicLinear]:
    """A convolutional layer of dynamic alignment units: its outputs, and the linear map that made them.

    Args:
        inputs: [N, H, W, C], float32, bfloat16 or float64.
        B: [k, k, C, r], the inputs' dtype.
        A: [k, k, C, K, r], likewise.
        b: [k, k, C, K], likewise.
        norm: "sq" or "l2".
        stride: distance between neighbouring patches, in pixels.
        padding: zeros added on each side, in pixels.
        form: "factored", "dense", or None for the cheaper of the two.

    Returns:
        (outputs [N, Ho, Wo, K] in the inputs' dtype, the `DynamicLinear` with `outputs = map.apply(inputs)`).

    Raises:
        InputError: an unknown norm or form, or a kernel that fits nowhere.
    """
    if norm not in NORMS:
        raise InputError(f"norm is {norm!r}, but must be one of {', '.join(NORMS)}")
    if form is None:
        form = cheapest_form(b[..., 0].size, B.shape[-1])
    if form not in FORMS:
        raise InputError(f"form is {form!r}, but must be one of {', '.join(FORMS)}, or None to choose by cost")
    patches = extract_patches(inputs, B.shape[0], stride, padding)
    units = dense_units if form == "dense" else factored_units
    outputs, h, s = units(patches, B, A, b, norm)
    return outputs.astype(inputs.dtype), DynamicLinear(A, b, h, s, inputs.shape[1:3], stride, padding)
