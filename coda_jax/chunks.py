"""Evaluate a function of a batch a few examples at a time.

Below, `function` maps a PyTree of arrays [n, ...] to another, example by example, and `batch` is a PyTree of arrays
[N, ...]; the result is that of `function(batch)`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.export import is_symbolic_dim

# On CPUs a map of 4 MB stays in the cache, and its pages are mapped once and not anew for every chunk. Accelerators
# want large kernels; there the limit only keeps a large batch from filling the memory.
_MOST_VALUES = {"cpu": 2**20}
_MOST_VALUES_ELSEWHERE = 2**26


def examples_at_once(examples: int, values: int) -> int:
    """The largest number of examples that divides `examples` and whose maps, of `values` each, are not too large.

    Where `jax.export` leaves `examples` open it has no known divisors: then all of them, or 1 if one's maps are too
    large for an accelerator.
    """
    if is_symbolic_dim(examples):
        return examples if values <= _MOST_VALUES_ELSEWHERE else 1
    most = _MOST_VALUES.get(jax.default_backend(), _MOST_VALUES_ELSEWHERE)
    fitting = range(1, max(1, min(examples, most // values)) + 1)
    return max(count for count in fitting if examples % count == 0)


def map_in_chunks(function: Callable[[Any], Any], batch: Any, values: int) -> Any:
    """`function(batch)` in as many examples at once as fit, which bounds the memory of what it makes on the way.

    The backward pass computes each chunk anew rather than keeping its intermediate results. The largest array that
    `function` makes for one example has so many `values`.
    """
    examples = jax.tree.leaves(batch)[0].shape[0]
    count = examples_at_once(examples, values)
    if count == examples:
        return jax.checkpoint(function)(batch)
    chunks = jax.tree.map(lambda array: array.reshape(-1, count, *array.shape[1:]), batch)
    results = lax.map(jax.checkpoint(function, prevent_cse=False), chunks)
    return jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), results)


def map_batches(function: Callable[[Any], Any], batch: Any, size: int | None) -> Any:
    """`function(batch)` in batches of `size`, the last of which is filled up with repetitions; in one if it is None."""
    examples = jax.tree.leaves(batch)[0].shape[0]
    if size is None or size >= examples:
        return function(batch)
    chunks = -(-examples // size)
    indices = jnp.minimum(jnp.arange(chunks * size), examples - 1).reshape(chunks, size)
    results = lax.map(lambda chunk: function(jax.tree.map(lambda array: array[chunk], batch)), indices)
    return jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:])[:examples], results)
