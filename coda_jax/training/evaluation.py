"""Evaluation on a test set."""

from collections.abc import Callable, Iterable

import jax

from coda_jax.training.step import Batch, Metrics, split_over_devices, total


def evaluate(
    eval_step: Callable[[dict, Batch], Metrics],
    variables: dict,
    batches: Iterable[Batch],
    check: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Mean loss and accuracy over all examples, each counted once whatever the sizes.

    Args:
        eval_step: from `step.mapped_eval_step`.
        variables: the network's.
        batches: this process's, from `coda_jax.data.test_batches`, of a size that the devices can share.
        check: is called after every batch, and may raise.

    Returns:
        "test_loss" in nats and "test_accuracy" in [0, 1].
    """
    sums = []
    for batch in batches:
        sums.append(eval_step(variables, split_over_devices(batch)))
        jax.block_until_ready(sums[-2:-1])
        check()
    sums = total(sums)
    return {f"test_{key}": sums[key] / sums["weight"] for key in ("loss", "accuracy")}
