"""Grids of images whose cells a network cannot see together (Rao, Böhle, Schiele, CVPR 2022, arXiv 2205.10435).

What is attributed to another cell of a grid than the class's own counts as wrong in `coda_jax.metrics.localisation`,
although the network may have used that cell. Two controls exclude this. In both, each cell is computed as an image by
itself, with padding at its own borders:

- DiFull: up to the logits. No other cell than a logit's own has any part in it; what is attributed there is wrong.
- DiPart: up to the sum or the mean over positions, in which the cells come together. Another cell may speak for a
  class, but not by way of neighbours at a border.

Both are functions of grids, which any method explains; `localisation_score` scores the attributions. `grid` is the
numbers of rows and columns of a grid of n cells, counted row by row; arrays that it does not fit raise InputError.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from coda_jax.attribution.protocol import LogitsFn, check_callable
from coda_jax.errors import InputError
from coda_jax.errors.checks import check_images
from coda_jax.metrics.localisation import check_grid, join_cells


def difull(logits_fn: LogitsFn, grid: tuple[int, int]) -> LogitsFn:
    """From grids [G, gh, gw, C] to the logits of each cell by itself [G, n · K]: class k of cell i is `i · K + k`.

    `logits_fn` is any function from single images [N, H, W, C] to logits [N, K], or from a layer's output to these.

    Examples:
        >>> cells = jnp.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 4, 1)  # One row of two cells of two pixels.
        >>> print(difull(lambda images: images.sum((1, 2)), (1, 2))(cells))
        [[3. 7.]]
    """
    return _OfCells(check_callable("logits_fn", logits_fn), check_grid(grid), _side_by_side)


def dipart(logits_fn: LogitsFn, grid: tuple[int, int]) -> LogitsFn:
    """From grids [G, gh, gw, C] to the mean of the cells' logits [G, K]; the argument is that of `difull`.

    If the logits are an affine function of a mean over positions, these are the logits of the grid where only the mean
    sees all cells. For a CoDA-Net, which sums, they are that but for a factor of n and a constant, which change no
    score.
    """
    return _OfCells(check_callable("logits_fn", logits_fn), check_grid(grid), _mean)


def cell_by_cell(function: Callable[[jax.Array], jax.Array], grid: tuple[int, int]) -> Callable[[jax.Array], jax.Array]:
    """From grids [G, gh, gw, C] to what a function makes of each cell, [N, H, W, C] -> [N, h, w, K], in its place.

    Such as the output of a layer, of which `difull` and `dipart` of the rest of the network make the logits.
    """
    return _OfCells(check_callable("function", function), check_grid(grid), join_cells)


def cut_cells(grids: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """The cells [G · n, H, W, C] of grids [G, rows · H, columns · W, C]."""
    (rows, columns), grids = check_grid(grid), check_images("grids", grids)
    count, height, width, channels = grids.shape
    if height % rows or width % columns:
        raise InputError(f"{height}x{width} pixels cannot be divided into a grid of {rows}x{columns} cells")
    cells = grids.reshape(count, rows, height // rows, columns, width // columns, channels).swapaxes(2, 3)
    return cells.reshape(count * rows * columns, height // rows, width // columns, channels)


@struct.dataclass
class _OfCells:
    """A function of grids: `gather` makes the result of what `function` makes of the cells."""

    function: LogitsFn
    grid: tuple[int, int] = struct.field(pytree_node=False)
    gather: Callable[[jax.Array, tuple[int, int]], jax.Array] = struct.field(pytree_node=False)

    def __call__(self, grids: jax.Array) -> jax.Array:
        return self.gather(self.function(cut_cells(grids, self.grid)), self.grid)


def _side_by_side(logits: jax.Array, grid: tuple[int, int]) -> jax.Array:
    return logits.reshape(-1, grid[0] * grid[1] * logits.shape[-1])


def _mean(logits: jax.Array, grid: tuple[int, int]) -> jax.Array:
    return jnp.mean(logits.reshape(-1, grid[0] * grid[1], logits.shape[-1]), axis=1)
