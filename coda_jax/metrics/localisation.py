"""Localisation on grids of images (Böhle, Fritz, Schiele, CVPR 2021, arXiv 2104.00032).

Images of different classes are put together in a grid, and the class of each is explained on the whole grid. A good
explanation of a class finds its positive contributions in the cell with that class's image.

`grid` always gives the numbers of rows and columns of a grid, which has n = rows · columns cells, counted row by row.
Arrays of other shapes or dtypes than the functions name raise InputError.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from coda_jax.errors import InputError
from coda_jax.errors.checks import as_array, check_whole

PAPER_GRIDS = 500
"""The number of grids that the paper evaluates on."""


def localisation_score(maps: jax.Array, grid: tuple[int, int] = (3, 3)) -> jax.Array:
    """The share of each target's positive contribution that falls in its own cell: [G, n], in [0, 1].

    The maps [G, n, gh, gw] are contributions of pixels on G grids, whose rows and columns must divide gh and gw; target
    i sits in cell i. The share is 0 for a target with no positive contribution, and 1/n for a uniform map.

    Examples:
        >>> maps = np.zeros((1, 4, 6, 6))  # Of four targets, on a grid of 2×2 cells of 3×3 pixels.
        >>> maps[0, 0, :3] = 1.0  # The first target's lie on its own cell and the one beside it, the others have none.
        >>> print(localisation_score(maps, grid=(2, 2)))
        [[0.5 0.  0.  0. ]]
    """
    rows, columns = check_grid(grid)
    maps = as_array("maps", maps)
    shape = maps.shape
    if len(shape) != 4 or shape[1] != rows * columns:
        raise InputError(f"maps must have shape [G, {rows * columns}, gh, gw] for grid {grid}, not {list(shape)}")
    height, width = shape[2:]
    if height % rows or width % columns:
        raise InputError(f"maps of {height}x{width} pixels cannot be divided into a grid of {rows}x{columns} cells")
    return _scores(maps, (rows, columns))


@partial(jax.jit, static_argnums=1)
def _scores(maps: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """What `localisation_score` returns."""
    (grids, cells, height, width), (rows, columns) = maps.shape, grid
    positive = jnp.maximum(maps, 0).reshape(grids, cells, rows, height // rows, columns, width // columns)
    sums = positive.sum(axis=(3, 5)).reshape(grids, cells, cells)
    own, total = jnp.diagonal(sums, axis1=1, axis2=2), sums.sum(axis=2)
    return own / jnp.where(total == 0, 1, total)


def compose_grids(inputs: jax.Array, indices: jax.Array | np.ndarray, grid: tuple[int, int] = (3, 3)) -> jax.Array:
    """Put images [N, H, W, C] together in grids: [G, rows · H, columns · W, C].

    The indices [G, n] are whole numbers; entry i is the image in cell i. One that is not from 0 to N - 1 raises
    InputError unless it is traced.
    """
    rows, columns = check_grid(grid)
    inputs, indices = as_array("inputs", inputs), as_array("indices", indices)
    if inputs.ndim != 4:
        raise InputError(f"inputs must have shape [N, H, W, C], not {list(inputs.shape)}")
    if not jnp.issubdtype(indices.dtype, jnp.integer) or indices.ndim != 2 or indices.shape[1] != rows * columns:
        raise InputError(
            f"indices must be whole numbers of shape [G, {rows * columns}] for grid {grid}, "
            f"not {indices.dtype} {list(indices.shape)}"
        )
    if not isinstance(indices, jax.core.Tracer):
        values = np.asarray(indices)  # Operations on JAX's own arrays would be traced where others are.
        outside = values[(values < 0) | (values >= len(inputs))]
        if outside.size:
            raise InputError(f"index {outside[0]} is not of an image: the images go from 0 to {len(inputs) - 1}")
    return _composed(inputs, indices, (rows, columns))


@partial(jax.jit, static_argnums=2)
def _composed(inputs: jax.Array, indices: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """What `compose_grids` returns."""
    return join_cells(inputs[indices.ravel()], grid)


def join_cells(cells: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """The grids [G, rows · H, columns · W, C] of their cells [G · n, H, W, C]."""
    (rows, columns), cells = check_grid(grid), as_array("cells", cells)
    if cells.ndim != 4 or len(cells) % (rows * columns):
        raise InputError(f"cells must have shape [G · {rows * columns}, H, W, C], not {list(cells.shape)}")
    _, height, width, channels = cells.shape
    by_place = cells.reshape(-1, rows, columns, height, width, channels).swapaxes(2, 3)
    return by_place.reshape(-1, rows * height, columns * width, channels)


def draw_grids(
    logits: jax.Array | np.ndarray,
    labels: jax.Array | np.ndarray,
    *,
    count: int | None = PAPER_GRIDS,
    grid: tuple[int, int] = (3, 3),
    seed: int,
) -> np.ndarray:
    """Choose the images of grids as the paper does: [G, n], the index of the image in each cell.

    Only images that are classified correctly and with a probability above 0.5 are used, each at most once. A grid takes
    n classes at random from those that have images left, and of each the image with the largest logit that is left. The
    same seed gives the same grids.

    The logits [N, K] are of single images; the labels [N], whole numbers, are their true classes. `count` is the number
    of grids G; None stands for as many as there are, at least one and at most `PAPER_GRIDS`. Labels that are no
    classes, and too few classes or images, raise InputError.
    """
    rows, columns = check_grid(grid)
    cells = rows * columns
    logits, labels = np.asarray(as_array("logits", logits)), np.asarray(as_array("labels", labels))
    if logits.ndim != 2:
        raise InputError(f"logits must have shape [N, K], not {list(logits.shape)}")
    examples, classes = logits.shape
    if labels.shape != (examples,) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"labels must be whole numbers of shape [{examples}], not {labels.dtype} {list(labels.shape)}")
    if not np.all((labels >= 0) & (labels < classes)):
        raise InputError(f"labels must be from 0 to {classes - 1}, but are from {labels.min()} to {labels.max()}")
    if cells > classes:
        raise InputError(f"a grid of {rows}x{columns} cells needs {cells} classes, but there are {classes}")
    if count is not None:
        check_whole("count", count)
    check_whole("seed", seed, 0)

    true_logits = logits[np.arange(examples), labels]
    confident = (np.argmax(logits, axis=1) == labels) & (true_logits > 0)  # A probability of 0.5 is a logit of 0.
    ranked = np.argsort(-true_logits, kind="stable")
    ranked = ranked[confident[ranked]]
    left = [list(ranked[labels[ranked] == label]) for label in range(classes)]
    numbers = np.array([len(images) for images in left])
    rng = np.random.default_rng(seed)
    grids: list[list[int]] = []
    while len(grids) < (PAPER_GRIDS if count is None else count):
        available = [label for label, images in enumerate(left) if images]
        if len(available) < cells:
            break
        grids.append([left[label].pop(0) for label in rng.choice(available, cells, replace=False)])
    if len(grids) < (count or 1):
        raise InputError(
            f"the number of grids of {cells} classes drawn with seed {seed} can be {len(grids)}, not {count or 1}: "
            f"{len(ranked)} of {examples} images are classified correctly with a probability above 0.5, "
            f"and class {numbers.argmin()} has the fewest of them, {numbers.min()}"
        )
    return np.array(grids)


def check_grid(grid: tuple[int, int]) -> tuple[int, int]:
    """The rows and columns of a grid; raises InputError unless both are whole numbers of at least 1."""
    if not isinstance(grid, tuple | list) or len(grid) != 2 or not all(type(n) is int and n >= 1 for n in grid):
        raise InputError(f"grid must be the numbers of rows and columns, such as (3, 3), not {grid}")
    return grid[0], grid[1]
