"""Evaluation on a test set."""

from collections.abc import Callable, Sequence
from typing import Any

from coda_jax.data import test_batches
from coda_jax.training.step import Batch, Metrics, split_over_devices


def evaluate(
    eval_step: Callable[[dict, Batch], Metrics],
    params: dict,
    source: Sequence[dict[str, Any]],
    batch_size: int,
) -> dict[str, float]:
    """Mean loss and accuracy over all examples, each counted once whatever the sizes.

    Args:
        eval_step: from `step.mapped_eval_step`.
        params: the network's parameters.
        source: random access to {"image": uint8 [H, W, 3], "label": int}.
        batch_size: a multiple of the number of devices.

    Returns:
        {"test_loss": in nats, "test_accuracy": in [0, 1]}.
    """
    totals = {"loss": 0.0, "accuracy": 0.0, "weight": 0.0}
    for batch in test_batches(source, batch_size=batch_size):
        for key, value in eval_step(params, split_over_devices(batch)).items():
            totals[key] += float(value)
    return {f"test_{key}": totals[key] / totals["weight"] for key in ("loss", "accuracy")}
