"""Losses of CoDA-Nets."""

import jax
import jax.numpy as jnp
import optax

from coda_jax.alignment.linear_map import LinearMap
from coda_jax.errors import InputError
from coda_jax.errors.checks import as_array, check_key, check_targets, check_whole


def binary_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Binary cross-entropy with logits of every class against all others, the paper's loss, in nats.

    Takes logits [N, K], floating, and labels [N], whole numbers in [0, K); returns [N], the mean over the classes for
    each example. Other shapes or dtypes, or (unless traced) a class that does not exist, raise InputError.
    """
    logits, labels = as_array("logits", logits), as_array("labels", labels)
    if logits.ndim != 2 or not jnp.issubdtype(logits.dtype, jnp.floating):
        raise InputError(f"logits must be floating-point [N, K], not {logits.dtype} {list(logits.shape)}")
    if labels.ndim != 1:
        raise InputError(f"labels must have shape [{logits.shape[0]}], not {list(labels.shape)}")
    labels = check_targets(labels, logits.shape[0], logits.shape[1], name="labels")[:, 0]
    one_hot = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, one_hot), axis=-1)


def weight_penalty(linear_map: LinearMap, targets: jax.Array) -> jax.Array:
    """The paper's regularisation: the mean absolute value of rows of the network's matrix `W(x)`, [N].

    The map is as from `CoDANet.decompose`, for N examples; the rows are those of the classes `targets`, [N, T].

    The paper takes the rows of the true class and of one other, drawn at random. `draw_penalised_classes` draws one of
    these two, which leaves the expected value and gradient as they are, at half of the cost.
    """
    return jnp.mean(jnp.abs(linear_map.rows(targets)), axis=(1, 2, 3, 4))


def draw_penalised_classes(key: jax.Array, labels: jax.Array, positions: jax.Array, num_classes: int) -> jax.Array:
    """For every example its own class, with probability 1/2, or one of the others, all equally probable; int [N].

    `labels` and `positions` are int [N]: each example has a position of its own, which with the key decides on its
    class. What is no key of `jax.random`, or fewer than two classes, raises InputError.
    """
    check_key("key", key)
    check_whole("num_classes", num_classes, 2)
    others = num_classes - 1
    draws = jax.vmap(lambda position: jax.random.randint(jax.random.fold_in(key, position), (), -others, others))
    # Half of the draws are negative.
    return (labels + jnp.maximum(0, draws(positions) + 1)) % num_classes
