"""Evaluate a function of a batch a few examples at a time.

Below, `function` maps a PyTree of arrays [n, ...] to another, example by example, and `batch` is a PyTree of arrays
[N, ...]; the result is that of `function(batch)`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.export import is_symbolic_dim

# On CPUs a map of 4 MB stays in the cache, and its pages are mapped once and not anew for every chunk. Accelerators
# want large kernels; there the limit only keeps a large batch from filling the memory.
_MOST_VALUES = {"cpu": 2**20, "default": 2**26}


def examples_at_once(examples: int, values: int, most: int) -> int:
    """The largest number of examples that divides `examples` and whose maps, of `values` each, have at most so many.

    It is 1 if there is none. Where `jax.export` leaves `examples` open it has no known divisors: then all of them, or 1
    if one's maps are too large for an accelerator.
    """
    if is_symbolic_dim(examples):
        return examples if values <= _MOST_VALUES["default"] else 1
    fitting = range(1, max(1, min(examples, most // values)) + 1)
    return max(count for count in fitting if examples % count == 0)


def map_in_chunks(function: Callable[[Any], Any], batch: Any, values: int) -> Any:
    """`function(batch)` in as many examples at once as fit, which bounds the memory of what it makes on the way.

    How many fit depends on the platform that the program is compiled for. The backward pass computes each chunk anew
    rather than keeping its intermediate results. The largest array that `function` makes for one example has so many
    `values`.
    """
    examples = jax.tree.leaves(batch)[0].shape[0]
    counts = {platform: examples_at_once(examples, values, most) for platform, most in _MOST_VALUES.items()}
    if counts["cpu"] == counts["default"]:
        return _in_chunks(function, batch, counts["default"])
    return lax.platform_dependent(
        batch, **{platform: partial(_in_chunks, function, count=count) for platform, count in counts.items()}
    )


def _in_chunks(function: Callable[[Any], Any], batch: Any, count: int) -> Any:
    """`function(batch)`, `count` examples at once."""
    if count == jax.tree.leaves(batch)[0].shape[0]:
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
