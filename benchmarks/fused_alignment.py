"""The alignment of a layer's units as kernels for GPUs, without the maps of `A_jᵀp` in memory.

`v_jᵀp` and `‖v_j‖²` in the factored form of `coda_jax.alignment.dau` are a bilinear form `xᵀM_j y` each for every
position and unit, plus small matrix products. XLA computes all the `x M_j`, rank × units numbers a position, writes
them to memory and reads them back to sum them against `y`. The kernels below hold a tile of one unit's `x M_j` in
registers and write only the sum. The form's derivatives

    x̄ = Σ_j f̄_j M_j y        ȳ = Σ_j f̄_j M_jᵀx        M̄_j = Σ_positions f̄_j x yᵀ

are sums of the same kind, and compute what they need of `M_j y` and `M_jᵀx` again.

Pallas compiles the kernels through Triton, the one GPU compiler that it has in both JAX 0.10 and 0.12 (since 0.11 with
a warning that it will be dropped). Triton's tiles have sides that are powers of two, at least 16 for tensor cores; the
arguments are padded to them with zeros. TPUs, whose tiles are 128 lanes wide, would need other kernels. A CPU
interprets these, slowly, for tests. Nobody has timed the kernels on a GPU yet, or tuned their tiles, so that they are
no part of the library: `python -m benchmarks.accelerator` measures a network whose layers use them.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from coda_jax import chunks
from coda_jax.alignment import dau
from coda_jax.alignment.dau import accumulation_dtype, gram

# A program's sums are a tile of POSITIONS × COLUMNS in float32, or two: with WARPS · 32 threads at most 64 of the 255
# registers that each may have. Its loop has STAGES pairs of factors in flight, POSITIONS × STEP and STEP × COLUMNS:
# at most 72 KiB of shared memory, where an H100 has 227 and smaller GPUs of its time 99.
POSITIONS = 128
COLUMNS = 64
STEP = 32  # Patches of 16 and 32 channels, 144 and 288 values, need little padding to its multiples.
WARPS = 8
STAGES = 3
PROGRAMS = 256  # Enough to give an H100's 132 multiprocessors about two each.


def fused_alignment_and_norm(p: jax.Array, h: jax.Array, A: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What `dense_alignment` computes, from the same arguments, without `v` or `Aᵀp` in memory.

    Reverse-mode derivatives exist, once, and `jax.vmap` works. A GPU rounds the factors of float32 products to
    TensorFloat-32, as it does in XLA's products, unless `jax.default_matmul_precision("highest")` forbids it. Rounding
    can leave a squared norm a little below zero where it is zero.

    Raises:
        NotImplementedError: compiled for a platform that is neither a CPU nor a GPU.
    """
    dtype = accumulation_dtype(p.dtype)
    alignment = _bilinear_forms(p, h, A) + jnp.matmul(p, b, preferred_element_type=dtype)
    # The norm's terms cancel where v is small, so what is bfloat16 does not stay so here.
    h, products = h.astype(dtype), gram(A.astype(dtype), b.astype(dtype))
    return alignment, _bilinear_forms(h, h, products.ATA) + 2 * h @ products.ATb + products.bTb


def use_in_all_layers() -> None:
    """Let the kernels compute every layer that this process compiles from now on, on whole batches."""
    dau.cheapest_form = lambda *_: "factored"
    dau.factored_alignment = lambda p, h, A, b, products: fused_alignment_and_norm(p, h, A, b)
    chunks.examples_at_once = lambda examples, *_: examples


@jax.custom_vjp
def _bilinear_forms(x: jax.Array, y: jax.Array, M: jax.Array) -> jax.Array:
    """`xᵀM_j y` at each position: [P, n], [P, m] and [n, K, m] of one dtype -> [P, K]."""
    (positions, n), m, units = x.shape, y.shape[1], M.shape[1]
    rows, columns, step = _tile(positions, POSITIONS), _tile(m, COLUMNS), _tile(n, STEP)
    x, y, M = _pad(x, rows, step), _pad(y, rows, columns), _pad(M, step, 1, columns)
    forms = _run(
        functools.partial(_forms_kernel, columns=columns, step=step),
        [x, y, M],
        grid=(units, len(x) // rows),
        in_specs=[
            pl.BlockSpec((rows, x.shape[1]), lambda k, i: (i, 0)),
            pl.BlockSpec((rows, y.shape[1]), lambda k, i: (i, 0)),
            pl.BlockSpec((M.shape[0], 1, M.shape[2]), lambda k, i: (0, k, 0)),
        ],
        out_specs=pl.BlockSpec((None, rows), lambda k, i: (k, i)),
        out_shape=jax.ShapeDtypeStruct((units, len(x)), accumulation_dtype(x.dtype)),
    )
    return forms[:, :positions].T


def _forward(x: jax.Array, y: jax.Array, M: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    return _bilinear_forms(x, y, M), (x, y, M)


def _backward(residuals: tuple[jax.Array, ...], cotangents: jax.Array) -> tuple[jax.Array, ...]:
    x, y, M = residuals
    weights = cotangents.T
    gradients = (
        _weighted_products(weights, y, M.transpose(2, 1, 0)),
        _weighted_products(weights, x, M),
        _weighted_outer_products(weights, x, y),
    )
    return tuple(gradient.astype(x.dtype) for gradient in gradients)


_bilinear_forms.defvjp(_forward, _backward)


def _weighted_products(weights: jax.Array, x: jax.Array, M: jax.Array) -> jax.Array:
    """`Σ_j weights_j (x M_j)`: [K, P], [P, n] and [n, K, m] -> [P, m]."""
    (positions, n), m, units = x.shape, M.shape[2], M.shape[1]
    rows, columns, step = _tile(positions, POSITIONS), _tile(m, COLUMNS), _tile(n, STEP)
    parts = _parts(units, pl.cdiv(positions, rows) * pl.cdiv(m, columns))
    share = pl.cdiv(units, parts)
    weights, x, M = _pad(weights, parts * share, rows), _pad(x, rows, step), _pad(M, step, parts * share, columns)
    sums = _run(
        functools.partial(_weighted_products_kernel, step=step),
        [weights, x, M],
        grid=(len(x) // rows, M.shape[2] // columns, parts),
        in_specs=[
            pl.BlockSpec((share, rows), lambda i, j, part: (part, i)),
            pl.BlockSpec((rows, x.shape[1]), lambda i, j, part: (i, 0)),
            pl.BlockSpec((M.shape[0], share, columns), lambda i, j, part: (0, part, j)),
        ],
        out_specs=pl.BlockSpec((None, rows, columns), lambda i, j, part: (part, i, j)),
        out_shape=jax.ShapeDtypeStruct((parts, len(x), M.shape[2]), weights.dtype),
    )
    return jnp.sum(sums, axis=0)[:positions, :m]


def _weighted_outer_products(weights: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """`Σ_positions weights_j x yᵀ` for each unit: [K, P], [P, n] and [P, m] -> [n, K, m]."""
    (positions, n), m, units = x.shape, y.shape[1], len(weights)
    rows, columns, step = _tile(n, COLUMNS), _tile(m, COLUMNS), _tile(positions, STEP)
    parts = _parts(pl.cdiv(positions, step), units * pl.cdiv(n, rows) * pl.cdiv(m, columns))
    share = pl.cdiv(positions, parts * step) * step
    weights, x, y = _pad(weights, 1, parts * share), _pad(x, parts * share, rows), _pad(y, parts * share, columns)
    sums = _run(
        functools.partial(_weighted_outer_products_kernel, step=step),
        [weights, x, y],
        grid=(x.shape[1] // rows, y.shape[1] // columns, units, parts),
        in_specs=[
            pl.BlockSpec((None, share), lambda i, j, k, part: (k, part)),
            pl.BlockSpec((share, rows), lambda i, j, k, part: (part, i)),
            pl.BlockSpec((share, columns), lambda i, j, k, part: (part, j)),
        ],
        out_specs=pl.BlockSpec((None, rows, None, columns), lambda i, j, k, part: (part, i, k, j)),
        out_shape=jax.ShapeDtypeStruct((parts, x.shape[1], units, y.shape[1]), weights.dtype),
    )
    return jnp.sum(sums, axis=0)[:n, :, :m]


def _forms_kernel(x_ref, y_ref, M_ref, forms_ref, *, columns: int, step: int) -> None:
    """One unit, one tile of positions: [rows, n], [rows, m] and [n, 1, m] -> [rows]."""

    def add(j, forms):
        tile = pl.ds(j * columns, columns)
        return forms + jnp.sum(_product(x_ref, M_ref, 0, tile, step) * y_ref[:, tile], axis=1)

    zeros = jnp.zeros(forms_ref.shape, forms_ref.dtype)
    forms_ref[...] = lax.fori_loop(0, y_ref.shape[1] // columns, add, zeros)


def _weighted_products_kernel(weights_ref, x_ref, M_ref, sums_ref, *, step: int) -> None:
    """A part of the units, one tile of the result: [share, rows], [rows, n], [n, share, columns] -> [rows, columns]."""

    def add(k, sums):
        return sums + weights_ref[k, :][:, None] * _product(x_ref, M_ref, k, pl.ds(0, sums.shape[1]), step)

    sums_ref[...] = lax.fori_loop(0, M_ref.shape[1], add, jnp.zeros(sums_ref.shape, sums_ref.dtype))


def _weighted_outer_products_kernel(weights_ref, x_ref, y_ref, sums_ref, *, step: int) -> None:
    """One unit, a part of the positions, one tile: [share], [share, rows] and [share, columns] -> [rows, columns]."""

    def add(i, sums):
        here = pl.ds(i * step, step)
        weighted = (weights_ref[here][:, None] * y_ref[here, :]).astype(y_ref.dtype)
        return sums + jnp.matmul(x_ref[here, :].T, weighted, preferred_element_type=sums.dtype)

    sums_ref[...] = lax.fori_loop(0, len(x_ref) // step, add, jnp.zeros(sums_ref.shape, sums_ref.dtype))


def _product(x_ref, M_ref, unit: int | jax.Array, columns: pl.Slice, step: int) -> jax.Array:
    """The columns of `x M_unit`, inside a kernel: [rows, n] and [n, units, m] -> [rows, columns]."""

    def add(i, product):
        here = pl.ds(i * step, step)
        return product + jnp.matmul(x_ref[:, here], M_ref[here, unit, columns], preferred_element_type=product.dtype)

    zeros = jnp.zeros((x_ref.shape[0], columns.size), accumulation_dtype(x_ref.dtype))
    return lax.fori_loop(0, x_ref.shape[1] // step, add, zeros)


def _run(kernel: Callable[..., None], arrays: list[jax.Array], **tiling) -> jax.Array:
    """Run the kernel: compiled on a GPU, interpreted on a CPU."""
    compiler_params = triton.CompilerParams(num_warps=WARPS, num_stages=STAGES)
    interpreted = pl.pallas_call(kernel, interpret=True, **tiling)
    compiled = pl.pallas_call(kernel, compiler_params=compiler_params, **tiling)
    return lax.platform_dependent(*arrays, cpu=interpreted, cuda=compiled, rocm=compiled)


def _tile(size: int, largest: int) -> int:
    """A side of a tile for an axis of that size."""
    return min(largest, max(16, pl.next_power_of_2(size)))


def _parts(terms: int, programs: int) -> int:
    """In how many parts to compute a sum: enough for a large GPU, of several terms each, as they go through memory."""
    return max(1, min(terms // 8, PROGRAMS // programs))


def _pad(array: jax.Array, *multiples: int) -> jax.Array:
    """The array with zeros behind, up to a multiple of each axis's number."""
    return jnp.pad(array, [(0, -size % multiple) for size, multiple in zip(array.shape, multiples, strict=True)])
