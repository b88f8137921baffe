"""The training loop."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
from flax import linen as nn

from coda_jax.data import Dataset, on_device, test_batches, train_batches
from coda_jax.errors import InputError, RunError
from coda_jax.networks.coda_net import CoDANet
from coda_jax.training import state as training_state
from coda_jax.training.checkpoints import Checkpoints
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


def train(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    dataset: Dataset,
    *,
    workdir: Path,
    batch_size: int,
    num_steps: int,
    seed: int,
    flip: bool,
    crop_padding: int,
    num_workers: int,
    log_every: int,
    checkpoint_every: int,
    accumulation: int = 1,
    penalty: float = 0.0,
    randaugment: int = 0,
    resident: on_device.Examples | None = None,
) -> training_state.TrainState:
    """Train on all devices until `num_steps` steps are done, from the newest checkpoint in `workdir` if there is one.

    Where there are several processes, all call it with the same arguments; each reads its share of every batch, and the
    first one writes and prints.

    Writes checkpoints to `workdir/checkpoints`, and to `workdir/metrics.jsonl` and `workdir/tensorboard` the mean
    "loss" and "accuracy" of the steps since the last record and, after every epoch and at the end, "test_loss" and
    "test_accuracy". An interrupted and resumed run ends with the same parameters, to the bit, as an uninterrupted one.

    Args:
        model: the network, with as many logits as there are classes, as `step.train_step` takes it.
        optimizer: as from `optimizer.make_optimizer`.
        dataset: as from `coda_jax.data.load`.
        workdir: the directory of the run.
        batch_size: examples a step, over all devices of all processes.
        num_steps: steps in all, those of earlier runs included.
        seed: of the parameters, the order of the examples, and the augmentation.
        flip: whether to mirror half of the images.
        crop_padding: pixels by which images are padded before they are cropped to the size of the test images.
        num_workers: processes that prepare batches; 0 for threads of this one.
        log_every: steps between two records.
        checkpoint_every: steps between two checkpoints; one is also saved at the end.
        accumulation: equal parts of every device's share of a batch that are computed one after the other, for batches
            that do not fit in memory at once.
        penalty: λ of the regularisation of `W(x)`, as in `step.train_step`; "penalty" is recorded then.
        randaugment: the magnitude of RandAugment's two operations, from 1 to 10; 0 for none.
        resident: the training examples as arrays, from `on_device.read(dataset.train)`: they are kept on the devices,
            and shuffled, mirrored and cropped there, without RandAugment. None to read and augment them on the host, in
            another order.

    Returns:
        The state after the last step.

    Raises:
        InputError: a batch size that the devices cannot share, `randaugment` with `resident`, a model with another
            number of classes than the data or larger kernels than its images, a penalty for another network than a
            `CoDANet`, or a checkpoint of another architecture.
        RunError: the run stops before its end: SIGTERM or SIGINT arrived, after which the state was saved; the loss or
            a gradient was not finite; or a checkpoint or record could not be written.
    """
    check(model, dataset, batch_size, accumulation, penalty)
    if resident is not None and randaugment:
        raise InputError("randaugment is for images that are read on the host: use resident=None, or randaugment=0")
    size = dataset.info.preprocessing.size
    state = training_state.create(model, optimizer, (size, size), seed)
    checkpoints = Checkpoints(workdir / "checkpoints")
    if checkpoints.latest_step() is not None:
        state = checkpoints.restore(state)
    start = int(state.step)
    tested = any(
        record["step"] == start and "test_loss" in record for record in read_metrics(workdir / "metrics.jsonl")
    )

    process = {"process": jax.process_index(), "processes": jax.process_count()}
    # Gradients need more memory than an evaluation does, so that one part fits.
    read_test = partial(test_batches, dataset.test, batch_size=batch_size // accumulation, **process)
    augmentation = {"flip": flip, "crop_padding": crop_padding}
    if resident is None:
        batches = train_batches(
            dataset.train,
            batch_size=batch_size,
            seed=seed,
            start=start,
            num_workers=num_workers,
            size=size,
            randaugment=randaugment,
            **augmentation,
            **process,
        )
        advance = _by_host_batches(mapped_train_step(model, optimizer, accumulation, penalty), batches)
        kept = None
    else:
        train_steps = mapped_train_steps(
            model, optimizer, batch_size=batch_size, accumulation=accumulation, penalty=penalty, **augmentation
        )
        advance = _by_resident_examples(train_steps, resident, seed)
        # To read them for every evaluation would take longer than the epochs of a fast device.
        kept = list(read_test())
    eval_step = mapped_eval_step(model)

    step, recorded = start, start
    recent: list[tuple[Metrics, int]] = []

    def test_after(step: int) -> int:
        return min(_end_of_epoch(step, batch_size, len(dataset.train)), num_steps)

    def check_finite() -> None:
        if (bad := _first_not_finite(recent, recorded)) is not None:
            raise RunError(
                f"the loss or a gradient of step {bad} is not finite: the last checkpoint, of step "
                f"{checkpoints.latest_step() or 0}, is kept, from where the same command comes to it again; its batch "
                f"is number {bad - 1} (from 0) of those drawn {'by the host' if resident is None else 'on the device'} "
                f"with seed={seed}, batch_size={batch_size}, flip={flip}, crop_padding={crop_padding} and "
                f"randaugment={randaugment}; unless something is wrong with it, begin anew with a lower learning rate"
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
                    min((step // every + 1) * every, num_steps) for every in (log_every, checkpoint_every)
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
                    names = ("loss", "accuracy") + (("penalty",) if penalty else ())
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


def check(model: nn.Module, dataset: Dataset, batch_size: int, accumulation: int = 1, penalty: float = 0.0) -> None:
    """Raise InputError unless the network fits the data and the penalty, and the batches the devices."""
    check_batch_size(batch_size, accumulation)
    if penalty and not isinstance(model, CoDANet):
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
