"""Evaluation on a test set."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from coda_jax.data import test_batches
from coda_jax.encoding import add_inverse
from coda_jax.training.step import Batch, Metrics, split_over_devices, total


def evaluate(
    eval_step: Callable[[dict, Batch], Metrics],
    variables: dict,
    batches: Iterable[Batch],
    check: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Mean loss and accuracy over all examples, each counted once whatever the sizes.

    Args:
        eval_step: a function as from `step.mapped_eval_step`.
        variables: the network's variables.
        batches: this process's batches, from `coda_jax.data.test_batches`, of a size that the devices can share.
        check: a function that is called after every batch, and may raise.

    Returns:
        "test_loss" in nats and "test_accuracy" in [0, 1].
    """
    sums = []
    for batch in batches:
        sums.append(eval_step(variables, split_over_devices(batch)))
        jax.block_until_ready(sums[-2:-1])
        check()
    totals = total(sums)
    return {f"test_{key}": totals[key] / totals["weight"] for key in ("loss", "accuracy")}


def classify(
    model: nn.Module,
    variables: Mapping[str, Any],
    examples: Sequence[Mapping[str, Any]],
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[np.ndarray, np.ndarray]:
    """The logits of all examples, on one device.

    Args:
        model: the network, for encoded images.
        variables: its variables.
        examples: random access to {"image": uint8 [H, W, 3], "label": int}, such as `dataset.test`.
        advance: a function that is called after every batch with the number of its examples, and may raise.

    Returns:
        (logits [N, K] in the network's dtype, float32 at least; labels int32 [N]), in the order of the examples.
    """
    logits, labels = [], []
    for batch in test_batches(examples, batch_size=min(250, len(examples))):
        real = batch["weight"] > 0  # The last batch was filled up.
        logits.append(np.asarray(_logits(model, variables, batch["image"]))[real])
        labels.append(batch["label"][real])
        advance(len(labels[-1]))
    return np.concatenate(logits), np.concatenate(labels)


@partial(jax.jit, static_argnums=0)
def _logits(model: nn.Module, variables: Mapping[str, Any], images: jax.Array) -> jax.Array:
    return model.apply(variables, add_inverse(images))
