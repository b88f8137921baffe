"""Efficient dynamic alignment units: their dynamic weights live in the space of rank r that patches are projected to.

Nearly all parameters and products of a layer of DAUs are those of `A_j`, d×r for each unit. Here `A_j` is r×r:

    h   = Q p             [r]    Q [r, d]: an orthonormal basis of what the rows of `B` span, shared by the units
    u_j = A_j h + b_j     [r]
    w_j = Qᵀ g(u_j)       [d]    g as in `coda_jax.dau`; ‖w_j‖ = ‖g(u_j)‖, as Q Qᵀ = 1
    y_j = w_jᵀ p = g(u_j)ᵀ h

so that the unit is a DAU with `A_j` and `b_j` confined to the span of Q, its weight has the same bound, and it answers
most strongly where it is aligned with the projected patch. The layer is the convolution with Q, followed by DAUs of
single pixels that take `h` for the projection of themselves.

Böhle, Fritz and Schiele (arXiv 2109.13004) have an efficient unit too. This one is ours, and not claimed to be theirs.
"""

import jax
import jax.numpy as jnp
from flax import struct

from coda_jax.checks import check_choice
from coda_jax.chunks import map_in_chunks
from coda_jax.dau import NORMS, DynamicLinear, accumulation_dtype, rescaling
from coda_jax.errors import InputError
from coda_jax.linear_map import LinearMap
from coda_jax.patches import extract_patches, fold_patches, output_size, reached_pixels


def orthonormal_basis(B: jax.Array) -> jax.Array:
    """Orthonormal columns that span what those of `B` span: [k, k, C, r] -> the same shape, in float32 at least.

    Raises:
        InputError: r is larger than d = k·k·C.
    """
    matrix = B.reshape(-1, B.shape[-1]).astype(accumulation_dtype(B.dtype))
    if matrix.shape[0] < matrix.shape[1]:
        raise InputError(
            f"an efficient unit's rank is at most the number of values in a patch, {matrix.shape[0]}, not "
            f"{matrix.shape[1]}"
        )
    return jnp.linalg.qr(matrix)[0].reshape(B.shape)


def as_full_units(B: jax.Array, A: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`B`, `A` and `b` of the layer of full units that is the same: [k, k, C, r], [k, k, C, K, r], [k, k, C, K]."""
    Q = orthonormal_basis(B).astype(B.dtype)
    return Q, jnp.einsum("ijcq,qkr->ijckr", Q, A), jnp.einsum("ijcq,qk->ijck", Q, b)


@struct.dataclass
class Convolution:
    """The linear map of a convolution, the same for all examples.

    Attributes:
        kernel: [k, k, C, r].
        input_size: (H, W), in pixels.
        stride: in pixels.
        padding: in pixels, with zeros.
    """

    kernel: jax.Array
    input_size: tuple[int, int] = struct.field(pytree_node=False)
    stride: int = struct.field(pytree_node=False)
    padding: int = struct.field(pytree_node=False)

    def apply(self, inputs: jax.Array) -> jax.Array:
        """[N, H, W, C] -> [N, Ho, Wo, r]."""
        patches = extract_patches(inputs, self.kernel.shape[0], self.stride, self.padding)
        return jnp.einsum("nxyijc,ijcr->nxyr", patches, self.kernel)

    def transpose(self, cotangents: jax.Array) -> jax.Array:
        """For T cotangents an example: [N, T, Ho, Wo, r] -> [N, T, H, W, C]."""
        matrix = self.kernel.reshape(-1, self.kernel.shape[-1])

        def to_inputs(cotangents: jax.Array) -> jax.Array:
            patches = jnp.matmul(cotangents.reshape(-1, *cotangents.shape[2:]), matrix.T)
            patches = patches.reshape(*patches.shape[:3], *self.kernel.shape[:3])
            folded = fold_patches(patches, self.input_size, self.stride, self.padding)
            return folded.reshape(*cotangents.shape[:2], *folded.shape[1:])

        return map_in_chunks(to_inputs, cotangents, cotangents[0, ..., 0].size * matrix.shape[0])

    def dense(self) -> jax.Array:
        """The whole matrix, the same for every example: [1, Ho, Wo, r, H, W, C]."""
        rows, columns = (
            reached_pixels(size, self.kernel.shape[0], self.stride, self.padding, self.kernel.dtype)
            for size in self.input_size
        )
        return jnp.einsum("ijcr,xih,yjw->xyrhwc", self.kernel, rows, columns)[None]


def efficient_alignment(
    inputs: jax.Array,
    Q: jax.Array,
    A: jax.Array,
    b: jax.Array,
    *,
    norm: str = "sq",
    stride: int = 1,
    padding: int = 0,
) -> tuple[jax.Array, LinearMap]:
    """A convolutional layer of efficient units: its outputs, and the linear map that made them.

    Args:
        inputs: [N, H, W, C], float32, bfloat16 or float64.
        Q: [k, k, C, r], as from `orthonormal_basis`.
        A: [r, K, r], in the inputs' dtype.
        b: [r, K], likewise.
        norm: "sq" or "l2".
        stride: distance between neighbouring patches, in pixels.
        padding: zeros added on each side, in pixels.

    Returns:
        (outputs [N, Ho, Wo, K] in the inputs' dtype, the map with `outputs = map.apply(inputs)`).

    Raises:
        InputError: an unknown norm, or a kernel that fits nowhere.
    """
    check_choice("norm", norm, NORMS)
    kernel_size, (rank, features) = Q.shape[0], b.shape
    rows, columns = (output_size(size, kernel_size, stride, padding) for size in inputs.shape[1:3])
    dtype = accumulation_dtype(inputs.dtype)

    def layer(inputs: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        patches = extract_patches(inputs, kernel_size, stride, padding)
        p = patches.reshape(-1, Q[..., 0].size)
        h = jnp.matmul(p, Q.reshape(-1, rank).astype(p.dtype), preferred_element_type=dtype).astype(p.dtype)
        # [P, K, r]: sums over the last axis are the faster ones here.
        u = jnp.matmul(h, A.transpose(2, 1, 0).reshape(rank, -1), preferred_element_type=dtype)
        u = u.reshape(-1, features, rank) + b.T
        s = rescaling(jnp.sum(u * u, axis=-1), norm)
        y = jnp.einsum("pkr,pr->pk", u, h.astype(dtype)) * s
        return tuple(array.reshape(*patches.shape[:3], -1) for array in (y, h, s))

    outputs, h, s = map_in_chunks(layer, inputs, rows * columns * max(rank * features, Q[..., 0].size))
    dynamic = DynamicLinear(A[None, None], b[None, None], h, s, (rows, columns), stride=1, padding=0)
    convolution = Convolution(Q, inputs.shape[1:3], stride, padding)
    return outputs.astype(inputs.dtype), LinearMap((convolution, dynamic))
