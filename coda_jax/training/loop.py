"""The training loop."""

from pathlib import Path

import jax
import numpy as np
import optax

from coda_jax.data import Dataset, train_batches
from coda_jax.errors import InputError
from coda_jax.models import CoDANet
from coda_jax.training import state as training_state
from coda_jax.training.checkpoints import Checkpoints
from coda_jax.training.evaluation import evaluate
from coda_jax.training.metrics_log import MetricsLog
from coda_jax.training.progress import Progress
from coda_jax.training.step import check_batch_size, mapped_eval_step, mapped_train_step, split_over_devices


def train(
    model: CoDANet,
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
) -> training_state.TrainState:
    """Train on all devices until `num_steps` steps are done, from the newest checkpoint in `workdir` if there is one.

    Writes checkpoints to `workdir/checkpoints`, and to `workdir/metrics.jsonl` and `workdir/tensorboard` the mean
    "loss" and "accuracy" of the steps since the last record and, after every epoch and at the end, "test_loss" and
    "test_accuracy". An interrupted and resumed run ends with the same parameters, to the bit, as an uninterrupted one.

    Args:
        model: the network, with as many channels in its last layer as there are classes.
        optimizer: as from `optimizer.adam_with_step_decay`.
        dataset: as from `coda_jax.data.load`.
        workdir: the directory of the run.
        batch_size: examples a step, over all devices.
        num_steps: steps in all, those of earlier runs included.
        seed: of the parameters, the order of the examples, and the augmentation.
        flip: whether to mirror half of the images.
        crop_padding: pixels by which images are padded before they are cropped to their size.
        num_workers: processes that prepare batches; 0 for threads of this one.
        log_every: steps between two records.
        checkpoint_every: steps between two checkpoints; one is also saved at the end.

    Returns:
        The state after the last step.

    Raises:
        InputError: a batch size that the devices cannot share, a model with another number of classes than the data,
            or a checkpoint of another architecture.
    """
    check(model, dataset, batch_size)
    state = training_state.create(model, optimizer, dataset.train[0]["image"].shape[:2], seed)
    checkpoints = Checkpoints(workdir / "checkpoints")
    if checkpoints.latest_step() is not None:
        state = checkpoints.restore(state)
    start = int(state.step)

    log = MetricsLog(workdir, start)
    progress = Progress(num_steps * batch_size, start * batch_size)
    if start:
        progress.tell(f"resumed after step {start}")
    batches = train_batches(
        dataset.train,
        batch_size=batch_size,
        seed=seed,
        flip=flip,
        crop_padding=crop_padding,
        start=start,
        num_workers=num_workers,
    )
    train_step, eval_step = mapped_train_step(model, optimizer), mapped_eval_step(model)
    recent = []
    for step in range(start + 1, num_steps + 1):
        state, metrics = train_step(state, split_over_devices(next(batches)))
        recent.append(metrics)
        progress.advance(batch_size)
        epoch = step * batch_size / len(dataset.train)
        last = step == num_steps
        if step % log_every == 0 or last:
            means = {key: float(np.mean([m[key] for m in jax.device_get(recent)])) for key in metrics}
            recent = []
            log.write(step, {"epoch": epoch, **means})
            progress.tell(_line(step, num_steps, epoch, means))
        if int(epoch) > int((step - 1) * batch_size / len(dataset.train)) or last:
            results = evaluate(eval_step, state.params, dataset.test, batch_size)
            log.write(step, {"epoch": epoch, **results})
            progress.tell(_line(step, num_steps, epoch, results))
        if step % checkpoint_every == 0 or last:
            checkpoints.save(state)
    progress.close()
    log.close()
    return state


def check(model: CoDANet, dataset: Dataset, batch_size: int) -> None:
    """Raise InputError unless the network fits the data's classes, and the batches the devices."""
    check_batch_size(batch_size)
    if model.channels[-1] != len(dataset.class_names):
        raise InputError(
            f"the last of channels is {model.channels[-1]}, but the data has {len(dataset.class_names)} classes"
        )


def _line(step: int, num_steps: int, epoch: float, metrics: dict[str, float]) -> str:
    values = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    return f"step {step}/{num_steps}  epoch {epoch:.2f}  {values}"
