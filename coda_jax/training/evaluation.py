"""Evaluation on a test set."""

from collections.abc import Callable, Iterable

from coda_jax.training.step import Batch, Metrics, split_over_devices, total


def evaluate(eval_step: Callable[[dict, Batch], Metrics], params: dict, batches: Iterable[Batch]) -> dict[str, float]:
    """Mean loss and accuracy over all examples, each counted once whatever the sizes.

    Args:
        eval_step: from `step.mapped_eval_step`.
        params: the network's parameters.
        batches: from `coda_jax.data.test_batches`, of a size that is a multiple of the number of devices.

    Returns:
        {"test_loss": in nats, "test_accuracy": in [0, 1]}.
    """
    sums = total([eval_step(params, split_over_devices(batch)) for batch in batches])
    return {f"test_{key}": sums[key] / sums["weight"] for key in ("loss", "accuracy")}
