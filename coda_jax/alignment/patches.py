"""Extract the patches that a convolution sees, and fold them back.

Kernel sizes k, strides (the distance between neighbouring patches) and paddings (zeros added on each side) are in
pixels. A kernel that fits nowhere raises InputError.
"""

import jax
import jax.numpy as jnp
from jax import lax

from coda_jax.errors import InputError


def output_size(size: int, kernel_size: int, stride: int, padding: int) -> int:
    """The number of positions of a kernel along one axis of `size` values."""
    positions = (size + 2 * padding - kernel_size) // stride + 1
    if positions < 1:
        remedy = "use larger images, a smaller kernel or more padding"
        raise InputError(f"a kernel of {kernel_size} does not fit into {size} pixels padded by {padding}: {remedy}")
    return positions


def extract_patches(inputs: jax.Array, kernel_size: int, stride: int, padding: int) -> jax.Array:
    """The zero-padded k×k patch at every position: [N, H, W, C] -> [N, Ho, Wo, k, k, C], in the inputs' dtype."""
    rows, columns = (output_size(size, kernel_size, stride, padding) for size in inputs.shape[1:3])
    padded = jnp.pad(inputs, ((0, 0), (padding, padding), (padding, padding), (0, 0)))

    def shifted(array: jax.Array, axis: int, positions: int) -> list[jax.Array]:
        covered = stride * (positions - 1) + 1
        return [lax.slice_in_dim(array, offset, offset + covered, stride, axis) for offset in range(kernel_size)]

    # One axis after the other: 2k slices rather than k², which also makes the gradient cheaper.
    in_columns = jnp.stack(shifted(padded, 2, columns), axis=3)
    return jnp.stack(shifted(in_columns, 1, rows), axis=3)


def fold_patches(patches: jax.Array, input_size: tuple[int, int], stride: int, padding: int) -> jax.Array:
    """Add every patch onto the place it was taken from: [N, Ho, Wo, k, k, C] -> [N, H, W, C], in the patches' dtype.

    This is the adjoint of `extract_patches` for inputs of `input_size` (H, W); what falls on the padding is dropped.
    """
    kernel_size = patches.shape[3]

    def add(shifted: list[jax.Array], axis: int, size: int) -> jax.Array:
        covered, zero = stride * (shifted[0].shape[axis] - 1) + 1, jnp.zeros((), patches.dtype)
        placed = []
        for offset, array in enumerate(shifted):
            places = [(0, 0, 0)] * array.ndim
            # lax.pad crops where the padding is negative, and spreads by the stride with its third value.
            places[axis] = offset - padding, size + padding - offset - covered, stride - 1
            placed.append(lax.pad(array, zero, places))
        return sum(placed)

    in_rows = add([patches[:, :, :, i] for i in range(kernel_size)], 1, input_size[0])
    return add([in_rows[:, :, :, j] for j in range(kernel_size)], 2, input_size[1])
