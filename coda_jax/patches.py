"""Extract the patches that a convolution sees, and fold them back."""

import jax
import jax.numpy as jnp
from jax import lax

from coda_jax.errors import InputError


def output_size(size: int, kernel_size: int, stride: int, padding: int) -> int:
    """Number of positions of a kernel along one axis of `size` values.

    Raises:
        InputError: the kernel fits nowhere.
    """
    positions = (size + 2 * padding - kernel_size) // stride + 1
    if positions < 1:
        raise InputError(
            f"a kernel of {kernel_size} does not fit into {size} pixels padded by {padding}: "
            "use larger images, a smaller kernel or more padding"
        )
    return positions


def extract_patches(inputs: jax.Array, kernel_size: int, stride: int, padding: int) -> jax.Array:
    """The zero-padded k×k patch at every position.

    Args:
        inputs: [N, H, W, C].
        kernel_size: k, in pixels.
        stride: distance between neighbouring patches, in pixels.
        padding: zeros added on each side, in pixels.

    Returns:
        [N, Ho, Wo, k, k, C], in the inputs' dtype.

    Raises:
        InputError: the kernel fits nowhere.
    """
    _, height, width, _ = inputs.shape
    rows = output_size(height, kernel_size, stride, padding)
    columns = output_size(width, kernel_size, stride, padding)
    padded = jnp.pad(inputs, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    shifted = [
        padded[:, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride]
        for i in range(kernel_size)
        for j in range(kernel_size)
    ]
    patches = jnp.stack(shifted, axis=3)
    return patches.reshape(*patches.shape[:3], kernel_size, kernel_size, patches.shape[-1])


def fold_patches(patches: jax.Array, input_size: tuple[int, int], stride: int, padding: int) -> jax.Array:
    """Add every patch onto the place that it was taken from: the adjoint of `extract_patches`.

    Args:
        patches: [N, Ho, Wo, k, k, C].
        input_size: (H, W), in pixels.
        stride: as given to `extract_patches`.
        padding: as given to `extract_patches`; what falls on it is dropped.

    Returns:
        [N, H, W, C], in the patches' dtype.
    """
    kernel_size = patches.shape[3]

    def place(offset: int, positions: int, size: int) -> tuple[int, int, int]:
        # lax.pad crops where the padding is negative, and spreads by the stride with its third value.
        covered = stride * (positions - 1) + 1
        return offset - padding, size + padding - offset - covered, stride - 1

    zero = jnp.zeros((), patches.dtype)
    return sum(
        lax.pad(
            patches[:, :, :, i, j],
            zero,
            (
                (0, 0, 0),
                place(i, patches.shape[1], input_size[0]),
                place(j, patches.shape[2], input_size[1]),
                (0, 0, 0),
            ),
        )
        for i in range(kernel_size)
        for j in range(kernel_size)
    )
