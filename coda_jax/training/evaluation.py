"""Evaluation on a test set."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from coda_jax import data
from coda_jax.networks.encoding import add_inverse
from coda_jax.training.step import Batch, Metrics, split_over_devices, total


def evaluate(
    eval_step: Callable[[dict, Batch], Metrics],
    variables: dict,
    batches: Iterable[Batch],
    check: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Mean "test_loss" in nats and "test_accuracy" in [0, 1] over all examples, each counted once whatever the sizes.

    `eval_step` is as from `step.mapped_eval_step`. The batches are those of this process, from
    `coda_jax.data.test_batches`, of a size that the devices can share. `check` is called after each, and may raise.
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
    """(Logits [N, K], labels int32 [N]) of all examples, in their order, on one device.

    The logits have the network's dtype, float32 at least. The examples are random access to {"image": uint8 [H, W, 3],
    "label": int}, such as `dataset.test`; the model takes their images encoded. `advance` is called after every batch
    with the number of its examples, and may raise.
    """
    logits, labels = [], []
    for batch in data.test_batches(examples, batch_size=min(250, len(examples))):
        real = batch["weight"] > 0  # The last batch was filled up.
        logits.append(np.asarray(_logits(model, variables, batch["image"]))[real])
        labels.append(batch["label"][real])
        advance(len(labels[-1]))
    return np.concatenate(logits), np.concatenate(labels)


@partial(jax.jit, static_argnums=0)
def _logits(model: nn.Module, variables: Mapping[str, Any], images: jax.Array) -> jax.Array:
    return model.apply(variables, add_inverse(images))
