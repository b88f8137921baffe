"""The training loop."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import jax
import numpy as np
from flax import linen as nn

from coda_jax.data import Dataset, on_device, test_batches, train_batches
from coda_jax.errors import InputError, RunError
from coda_jax.networks.coda_net import CoDANet
from coda_jax.training import state as training_state
from coda_jax.training.checkpoints import Checkpoints
from coda_jax.training.configuration import Training
from coda_jax.training.evaluation import evaluate
from coda_jax.training.interruption import Interrupted, Interruption
from coda_jax.training.metrics_log import MetricsLog, read_metrics
from coda_jax.training.progress import Progress
from coda_jax.training.step import (
    Batch,
    Metrics,
    check_batch_size,
    mapped_eval_step,
    mapped_train_step,
    mapped_train_steps,
    split_over_devices,
    total,
)

# Does at least one step and at most so many; the next state, the sums of the steps' metrics, and how many it did.
Advance = Callable[[training_state.TrainState, int], tuple[training_state.TrainState, Metrics, int]]


def train(model: nn.Module, dataset: Dataset, training: Training, workdir: Path) -> training_state.TrainState:
    """Train on all devices until all steps are done, from the newest checkpoint in `workdir` if there is one.

    Where there are several processes, all call it with the same arguments; each reads its share of every batch, and the
    first one writes and prints.

    Writes checkpoints to `workdir/checkpoints`, and to `workdir/metrics.jsonl` and `workdir/tensorboard` the mean
    "loss" and "accuracy" of the steps since the last record and, after every epoch and at the end, "test_loss" and
    "test_accuracy". An interrupted and resumed run ends with the same parameters, to the bit, as an uninterrupted one.

    Args:
        model: the network, with as many logits as there are classes, as `step.train_step` takes it.
        dataset: as from `coda_jax.data.load`.
        training: all settings. With `on_device` the training examples are kept on the devices, and their order is
            another than that of those which are read on the host.
        workdir: the directory of the run.

    Returns:
        The state after the last step.

    Raises:
        InputError: a batch size that the devices cannot share, a model with another number of classes than the data or
            larger kernels than its images, a penalty for another network than a `CoDANet`, or a checkpoint of another
            architecture.
        RunError: the run stops before its end: SIGTERM or SIGINT arrived, after which the state was saved; the loss or
            a gradient was not finite; or a checkpoint or record could not be written.
    """
    check(model, dataset, training)
    batch_size, num_steps = training.batch_size, training.steps(len(dataset.train))
    optimizer = training.make_optimizer(len(dataset.train))
    size = dataset.info.preprocessing.size
    state = training_state.create(model, optimizer, (size, size), training.seed)
    checkpoints = Checkpoints(workdir / "checkpoints")
    if checkpoints.latest_step() is not None:
        state = checkpoints.restore(state)
    start = int(state.step)
    tested = any(
        record["step"] == start and "test_loss" in record for record in read_metrics(workdir / "metrics.jsonl")
    )

    process = {"process": jax.process_index(), "processes": jax.process_count()}
    # Gradients need more memory than an evaluation does, so that one part fits.
    read_test = partial(test_batches, dataset.test, batch_size=batch_size // training.accumulation, **process)
    augmentation = {"flip": training.flip, "crop_padding": training.crop_padding}
    objective = {"accumulation": training.accumulation, "penalty": training.penalty}
    if not training.on_device:
        batches = train_batches(
            dataset.train,
            batch_size=batch_size,
            seed=training.seed,
            start=start,
            num_workers=training.num_workers,
            size=size,
            randaugment=training.randaugment,
            **augmentation,
            **process,
        )
        advance = _by_host_batches(mapped_train_step(model, optimizer, **objective), batches)
        kept = None
    else:
        train_steps = mapped_train_steps(model, optimizer, batch_size=batch_size, **objective, **augmentation)
        advance = _by_resident_examples(train_steps, on_device.read(dataset.train), training.seed)
        # To read them for every evaluation would take longer than the epochs of a fast device.
        kept = list(read_test())
    eval_step = mapped_eval_step(model)

    step, recorded = start, start
    recent: list[tuple[Metrics, int]] = []

    def test_after(step: int) -> int:
        return min(_end_of_epoch(step, batch_size, len(dataset.train)), num_steps)

    def check_finite() -> None:
        if (bad := _first_not_finite(recent, recorded)) is not None:
            drawn = "on the device" if training.on_device else "by the host"
            raise RunError(
                f"the loss or a gradient of step {bad} is not finite: the last checkpoint, of step "
                f"{checkpoints.latest_step() or 0}, is kept, from where the same command comes to it again; its batch "
                f"is number {bad - 1} (from 0) of those drawn {drawn} with seed={training.seed}, "
                f"batch_size={batch_size}, flip={training.flip}, "
                f"crop_padding={training.crop_padding} and randaugment={training.randaugment}; "
                "unless something is wrong with it, begin anew with a lower learning rate"
            )

    with (
        Interruption() as interruption,
        closing(MetricsLog(workdir, start)) as log,
        closing(Progress(num_steps * batch_size, start * batch_size)) as progress,
    ):

        def write(metrics: dict[str, float]) -> None:
            epoch = step * batch_size / len(dataset.train)
            log.write(step, {"epoch": epoch, **metrics})
            values = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
            progress.tell(f"step {step}/{num_steps}  epoch {epoch:.2f}  {values}")

        def test() -> None:
            write(evaluate(eval_step, state.variables, kept or read_test(), interruption.check))

        if start:
            progress.tell(f"resumed after step {start}")
        try:
            if start and start == test_after(start - 1) and not tested:  # It was stopped while it was tested.
                test()
            while step < num_steps:
                record_at, checkpoint_at = (
                    min((step // every + 1) * every, num_steps)
                    for every in (training.log_every, training.checkpoint_every)
                )
                test_at = test_after(step)
                called = time.monotonic()
                state, metrics, count = advance(state, min(record_at, test_at, checkpoint_at) - step)
                if step == start:  # Only the first call waits, for the compiler.
                    progress.tell(f"compiled the training step and began in {time.monotonic() - called:.1f} s")
                step += count
                recent.append((metrics, count))
                progress.advance(count * batch_size)
                # One step ahead of the devices is enough, and leaves little to wait for when a signal comes.
                jax.block_until_ready(recent[-2:-1])
                if step in (record_at, test_at, checkpoint_at):
                    check_finite()
                if step == record_at:
                    sums = total([metrics for metrics, _ in recent])
                    names = ("loss", "accuracy") + (("penalty",) if training.penalty else ())
                    write({name: sums[name] / (step - recorded) for name in names})
                    recorded, recent = step, []
                if step == test_at:
                    test()
                if step == checkpoint_at:
                    checkpoints.save(state)
                interruption.check()
        except Interrupted as interrupted:
            check_finite()
            checkpoints.save(state)
            raise RunError(
                f"stopped by {interrupted.signal.name} after step {step} of {num_steps}, which is saved: the same "
                "command goes on from there",
                status=128 + interrupted.signal,
            ) from None
    return state


def _first_not_finite(recent: list[tuple[Metrics, int]], done: int) -> int | None:
    """The first step whose loss or gradient was not finite; `done` steps were done before those in `recent`."""
    for metrics, count in recent:
        if metrics["finite"] < count:
            return done + int(metrics["finite"]) + 1
        done += count
    return None


def check(model: nn.Module, dataset: Dataset, training: Training) -> None:
    """Raise InputError unless the network fits the data and the penalty, and the batches the devices."""
    check_batch_size(training.batch_size, training.accumulation)
    if training.penalty and not isinstance(model, CoDANet):
        raise InputError(f"penalty must be 0 but for CoDA-Nets: {type(model).__name__} has no matrix W(x)")
    size = dataset.info.preprocessing.size
    inputs = jax.ShapeDtypeStruct((1, size, size, 6), np.float32)
    logits, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), inputs)
    classes = len(dataset.info.class_names)
    if logits.shape[-1] != classes:
        attribute = "the last of channels" if isinstance(model, CoDANet) else "the network's number of classes"
        raise InputError(f"{attribute} is {logits.shape[-1]}, but the data has {classes} classes")


def _by_host_batches(
    train_step: Callable[[training_state.TrainState, Batch], tuple[training_state.TrainState, Metrics]],
    batches: Iterator[Batch],
) -> Advance:
    """One step at a time, each on the next batch from the host."""

    def advance(state: training_state.TrainState, limit: int) -> tuple[training_state.TrainState, Metrics, int]:
        state, metrics = train_step(state, split_over_devices(next(batches)))
        return state, metrics, 1

    return advance


def _by_resident_examples(train_steps: Callable, resident: on_device.Examples, seed: int) -> Advance:
    """All the steps at once, on batches that the devices draw."""
    examples = jax.device_put(resident, training_state.replicated())
    devices = jax.process_index() * jax.local_device_count() + np.arange(jax.local_device_count())
    key = jax.random.key(seed)

    def advance(state: training_state.TrainState, limit: int) -> tuple[training_state.TrainState, Metrics, int]:
        state, sums = train_steps(state, examples, key, limit, devices)
        return state, sums, limit

    return advance


def _end_of_epoch(step: int, batch_size: int, num_examples: int) -> int:
    """The first step after `step` with which an epoch ends."""
    epochs = step * batch_size // num_examples + 1
    return math.ceil(epochs * num_examples / batch_size)
