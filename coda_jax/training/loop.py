"""The training loop."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
from flax import linen as nn

from coda_jax.data import Dataset, on_device, test_batches, train_batches
from coda_jax.errors import InputError, RunError
from coda_jax.networks.variables import Pretrained
from coda_jax.training.checkpoints import Checkpoints
from coda_jax.training.configuration import Training
from coda_jax.training.evaluation import evaluate
from coda_jax.training.interruption import Interrupted, Interruption
from coda_jax.training.metrics_log import MetricsLog, read_metrics
from coda_jax.training.progress import Progress
from coda_jax.training.state import TrainState, beginning_with, create, replicated
from coda_jax.training.step import (
    Batch,
    Metrics,
    check_training,
    mapped_eval_step,
    mapped_train_step,
    mapped_train_steps,
    split_over_devices,
    total,
)


def train(
    model: nn.Module, dataset: Dataset, training: Training, workdir: Path, begin: Pretrained | None = None
) -> TrainState:
    """Train on all devices, from the newest checkpoint in `workdir` if there is one; returns the state after all steps.

    A new run begins with the parameters of `begin`, a `CoDANet` of the same layers; None stands for random ones. In the
    last layer a class begins with the unit of the class of the same name; without names in `begin.info`, of the same
    number, where there are as many; or else anew.
    All processes of a run call it with the same arguments; each reads its share of every batch, and the first one
    writes and prints. The model is as `step.train_step` takes it, with as many logits as there are classes. With
    `training.on_device` the examples come in another order.

    Checkpoints go to `workdir/checkpoints`. To `workdir/metrics.jsonl` and `workdir/tensorboard` go the mean "loss" and
    "accuracy" of the steps since the last record and, after every `test_every` epochs and at the end, "test_loss" and
    "test_accuracy". A resumed run ends with the same parameters, to the bit, as an uninterrupted one.

    Raises InputError for a refusal of `check` or a checkpoint of another architecture. Raises RunError if the run stops
    before its end: SIGTERM or SIGINT came, and the state is saved; the loss or a gradient is not finite; or a
    checkpoint or record cannot be written.

    These lines train a network:

        from pathlib import Path

        from coda_jax import CoDANet, data
        from coda_jax.training.configuration import Training
        from coda_jax.training.loop import train

        layers = {"ranks": (8, 8), "kernel_sizes": (3, 1), "strides": (2, 1), "paddings": (1, 0)}
        model = CoDANet(channels=(16, 10), temperature=10.0, **layers)
        training = Training(batch_size=32, num_epochs=1, learning_rate=2e-3, flip=False)
        state = train(model, data.load("digits"), training, Path("run"))
    """
    check(model, dataset, training)
    num_examples, size = len(dataset.train), dataset.info.preprocessing.size
    optimizer = training.make_optimizer(num_examples)
    state = create(model, optimizer, (size, size), training.seed)
    checkpoints = Checkpoints(workdir / "checkpoints")
    if checkpoints.latest_step() is not None:
        state = checkpoints.restore(state)
    elif begin is not None:
        state = beginning_with(state, begin.variables["params"], _classes_of(begin, dataset.info.class_names))
    start, num_steps = int(state.step), training.steps(num_examples)
    advance, read_test = _stepper(model, optimizer, dataset, training, start), _test_reader(dataset, training)
    eval_step = mapped_eval_step(model)
    records = read_metrics(workdir / "metrics.jsonl")
    tested = any(record["step"] == start and "test_loss" in record for record in records)

    def test_after(step: int) -> int:
        """The first step after `step` with which an epoch ends after which there is a test."""
        epochs_between = training.test_every * training.stretch(num_examples)
        epochs = (step * training.batch_size // num_examples // epochs_between + 1) * epochs_between
        return training.steps_of(epochs, num_examples)

    with (
        Interruption() as interruption,
        closing(checkpoints),
        closing(_Recorder(workdir, training, num_examples, start)) as recorder,
    ):

        def test() -> None:
            recorder.write(evaluate(eval_step, state.variables, read_test(), interruption.check))

        try:
            if start and start == min(test_after(start - 1), num_steps) and not tested:
                test()  # The run was stopped during this evaluation.
            while recorder.step < num_steps:
                intervals = training.log_every, training.checkpoint_every
                record_at, save_at = ((recorder.step // interval + 1) * interval for interval in intervals)
                due = [min(step, num_steps) for step in (record_at, test_after(recorder.step), save_at)]
                called = time.monotonic()
                state, metrics, count = advance(state, min(due) - recorder.step)
                recorder.count(metrics, count, time.monotonic() - called)
                to_record, to_test, to_save = (step == recorder.step for step in due)
                if to_record or to_test or to_save:
                    recorder.check_finite(checkpoints)
                if to_record:
                    recorder.write_means()
                if to_test:
                    test()
                if to_save:
                    checkpoints.begin(state)
                interruption.check()
        except Interrupted as interrupted:
            recorder.check_finite(checkpoints)
            checkpoints.save(state)
            raise RunError(
                f"stopped by {interrupted.signal.name} after step {recorder.step} of {num_steps}, which is saved: the "
                "same command goes on from there",
                status=128 + interrupted.signal,
            ) from None
    return state


class _Recorder:
    """Counts the steps done in `step`, and writes and tells their metrics."""

    def __init__(self, workdir: Path, training: Training, num_examples: int, start: int):
        """Open the record as it was after `start` steps."""
        self.step = self._start = self._recorded = start
        self._recent: list[tuple[Metrics, int]] = []  # Since the step that was recorded last.
        self._training, self._num_examples = training, num_examples
        self._num_steps = training.steps(num_examples)
        self._log = MetricsLog(workdir, start)
        self._progress = Progress(self._num_steps * training.batch_size, start * training.batch_size)
        if start:
            self._progress.tell(f"resumed after step {start}")

    def count(self, metrics: Metrics, count: int, seconds: float) -> None:
        """Take in the sums of the metrics of `count` further steps, whose call took so long."""
        if self.step == self._start:  # Only the first call waits, for the compiler.
            self._progress.tell(f"compiled the training step and began in {seconds:.1f} s")
        self.step += count
        self._recent.append((metrics, count))
        self._progress.advance(count * self._training.batch_size)
        # One step ahead of the devices is enough, and leaves little to wait for when a signal comes.
        jax.block_until_ready(self._recent[-2:-1])

    def write(self, metrics: dict[str, float]) -> None:
        """Write the metrics' values after the step, and tell them."""
        epoch = self.step * self._training.batch_size / self._num_examples
        self._log.write(self.step, {"epoch": epoch, **metrics})
        values = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        self._progress.tell(f"step {self.step}/{self._num_steps}  epoch {epoch:.2f}  {values}")

    def write_means(self) -> None:
        """Write the means of the metrics since the last time."""
        sums = total([metrics for metrics, _ in self._recent])
        names = ("loss", "accuracy") + (("penalty",) if self._training.penalty else ())
        self.write({name: sums[name] / (self.step - self._recorded) for name in names})
        self._recorded, self._recent = self.step, []

    def check_finite(self, checkpoints: Checkpoints) -> None:
        """Raise RunError, which names the first such step, where a loss or gradient was not finite."""
        training, done = self._training, self._recorded
        drawn = "on the device" if training.on_device else "by the host"
        augmentation = ", ".join(f"{name}={value}" for name, value in training.augmentation.items())
        for metrics, count in self._recent:
            good = done + int(metrics["finite"])
            done += count
            if good < done:
                raise RunError(
                    f"the loss or a gradient of step {good + 1} is not finite: the last checkpoint, of step "
                    f"{checkpoints.latest_step() or 0}, is kept, from where the same command comes to it again; its "
                    f"batch is number {good} (from 0) of those drawn {drawn} with seed={training.seed}, "
                    f"batch_size={training.batch_size}, crop_size={training.crop_size}, {augmentation}; unless "
                    "something is wrong with it, begin anew with a lower learning rate"
                )

    def close(self) -> None:
        self._progress.close()
        self._log.close()


def _classes_of(begin: Pretrained, class_names: Sequence[str]) -> list[int | None]:
    """For each class, the number of the trained network's class that is the same; None where it has none."""
    if begin.info is None:
        same_count = begin.model.channels[-1] == len(class_names)
        return [number if same_count else None for number in range(len(class_names))]
    numbers = {name: number for number, name in enumerate(begin.info.class_names)}
    return [numbers.get(name) for name in class_names]


def check(model: nn.Module, dataset: Dataset, training: Training) -> None:
    """Raise InputError unless the devices can share a batch, and the network fits the data and the settings.

    It must have as many classes as the data, no larger kernels than its images, and for a penalty be a `CoDANet`.
    """
    size = min(dataset.info.preprocessing.size, training.crop_pixels(dataset.info.preprocessing.size))
    has, classes = check_training(model, (size, size), training), len(dataset.info.class_names)
    if has != classes:
        attribute = "the last of channels" if hasattr(model, "channels") else "the network's number of classes"
        raise InputError(f"{attribute} is {has}, but the data has {classes} classes")


def _processes() -> dict[str, int]:
    return {"process": jax.process_index(), "processes": jax.process_count()}


def _test_reader(dataset: Dataset, training: Training) -> Callable[[], Iterable[Batch]]:
    """A function that gives this process's batches of the test set."""
    # Gradients need more memory than an evaluation does, so that one part fits.
    batch_size = training.batch_size // training.accumulation
    read = partial(test_batches, dataset.test, batch_size=batch_size, **_processes())
    if not training.on_device:
        return read
    # To read them for every evaluation would take longer than the epochs of a fast device.
    kept = list(read())
    return lambda: kept


def _stepper(
    model: nn.Module, optimizer: optax.GradientTransformation, dataset: Dataset, training: Training, start: int
) -> Callable[[TrainState, int], tuple[TrainState, Metrics, int]]:
    """A function that does the steps after the first `start`, at least one a call, and at most as many as it is told.

    It returns the state after them, the sums of their metrics, and their number.
    """
    if training.on_device:
        train_steps = mapped_train_steps(model, optimizer, training)
        examples = jax.device_put(on_device.read(dataset.train), replicated())
        devices = jax.process_index() * jax.local_device_count() + np.arange(jax.local_device_count())
        key = jax.random.key(training.seed)

        def all_at_once(state: TrainState, limit: int) -> tuple[TrainState, Metrics, int]:
            return *train_steps(state, examples, key, limit, devices), limit

        return all_at_once

    train_step = mapped_train_step(model, optimizer, training)
    batches = train_batches(
        dataset.train,
        batch_size=training.batch_size,
        seed=training.seed,
        start=start,
        num_workers=training.num_workers,
        size=training.crop_pixels(dataset.info.preprocessing.size),
        **training.augmentation,
        **_processes(),
    )

    def one_at_a_time(state: TrainState, limit: int) -> tuple[TrainState, Metrics, int]:
        return *train_step(state, split_over_devices(next(batches))), 1

    return one_at_a_time
