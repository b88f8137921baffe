"""Training on arrays, for whom the images are in memory."""

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn

from coda_jax.errors import InputError, RunError
from coda_jax.errors.checks import as_array, check_number, check_targets
from coda_jax.training.configuration import Training
from coda_jax.training.evaluation import evaluate
from coda_jax.training.optimizer import make_optimizer
from coda_jax.training.state import create, replicated
from coda_jax.training.step import check_training, mapped_eval_step, mapped_train_steps, total

Arrays = Mapping[str, Any]
"""{"image": uint8 [n, H, W, 3], "label": whole numbers [n]}, as NumPy's or JAX's arrays."""


def _tell(epoch: int, metrics: dict[str, float], variables: Mapping[str, Any]) -> None:
    print(f"epoch {epoch}", *(f"{name} {value:.4g}" for name, value in metrics.items()), sep="  ", flush=True)


def fit(
    model: nn.Module,
    train: Arrays,
    test: Arrays | None = None,
    *,
    epochs: int = 10,
    batch_size: int = 64,
    seconds: float | None = None,
    workdir: str | Path | None = None,
    after_epoch: Callable[[int, dict[str, float], Mapping[str, Any]], None] = _tell,
    **settings: Any,
) -> dict[str, Any]:
    """Train a network on arrays, on all devices of this process, and return its variables.

    The arrays live on the devices, where they are shuffled, mirrored and cropped. Only JAX, Flax and Optax are needed,
    and Orbax for `workdir`.

    Args:
        model: a `CoDANet`, or any other network that `step.train_step` takes.
        train: the training images and their classes.
        test: those on which the network is tested after each epoch.
        epochs: the number of passes over the training images.
        batch_size: the number of examples a step, over all devices.
        seconds: how long the call may take, whatever it trains in that time. The learning rate then goes through the
            schedule of all `epochs` just once, faster or slower than by steps; the last epoch may be cut short.
        workdir: a directory for a checkpoint after each epoch, from the newest of which the same call goes on.
        after_epoch: called with the number of an epoch, its metrics and the variables, whose memory is used again. The
            metrics are means over the epoch, "loss" in nats and "accuracy", with "test_loss", "test_accuracy" and
            "seconds". By default a line is printed.
        settings: others of `Training`, such as `optimizer="muon", learning_rate=0.02, schedule="cosine"`.

    Arrays, settings, a network or a checkpoint that do not fit together raise InputError. A loss or a gradient that is
    not finite, or a checkpoint that cannot be written, raises RunError.

    Examples:
        >>> from coda_jax import CoDANet
        >>> model = CoDANet(channels=(4, 3), ranks=(4, 4), kernel_sizes=(3, 1), strides=(2, 1), paddings=(1, 0))
        >>> images = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 3), np.uint8)
        >>> examples = {"image": images, "label": np.arange(32) % 3}
        >>> variables = fit(model, examples, epochs=2, batch_size=16, after_epoch=lambda epoch, *_: print(epoch))
        1
        2
    """
    began = time.monotonic()
    training = Training(num_epochs=epochs, batch_size=batch_size, on_device=True, **settings)
    if seconds is not None:
        check_number("seconds", seconds, above=0)
    examples = _checked("train", train, model, training)
    tests = None if test is None else _checked("test", test, model, training)
    num_examples = len(examples["label"])
    last = training.steps(num_examples)
    optimizer = training.make_optimizer(num_examples)
    if seconds is not None:
        optimizer, last = _stretched(training, num_examples), (2**31 - 1) // batch_size
    state = create(model, optimizer, examples["image"].shape[1:3], training.seed)
    checkpoints = None
    if workdir is not None:
        from coda_jax.training.checkpoints import Checkpoints  # Orbax is not always there.

        checkpoints = Checkpoints(Path(workdir) / "checkpoints")
        if checkpoints.latest_step() is not None:
            state = checkpoints.restore(state)
    train_steps, eval_step = mapped_train_steps(model, optimizer, training), mapped_eval_step(model)
    examples = jax.device_put(examples, replicated())
    key, devices = jax.random.key(training.seed), np.arange(jax.local_device_count())
    done, reserve, step_seconds = int(state.step), 0.0, math.inf
    deadline = math.inf if seconds is None else began + seconds
    if seconds is not None and tests is not None:
        evaluate(eval_step, state.variables, itertools.islice(_batches(tests, batch_size), 1))  # Compiles it.
        evaluation_began = time.monotonic()
        evaluate(eval_step, state.variables, _batches(tests, batch_size))
        reserve = time.monotonic() - evaluation_began  # What the end of an epoch takes, at least.
    while done < last:
        first, epoch, began, parts = done, done * batch_size // num_examples + 1, time.monotonic(), []
        end = min(training.steps_of(epoch, num_examples), last)
        while done < end and (left := deadline - reserve - time.monotonic()) > 0:
            # Half of the time at most, as it is known only roughly what a step takes.
            count = int(min(end - done, max(1, left / 2 / step_seconds)))
            if seconds is not None:
                steps = jax.device_put(np.float32(done + max(1, left / step_seconds)), replicated())
                state = dataclasses.replace(state, opt_state=state.opt_state._replace(hyperparams={"steps": steps}))
            call_began = time.monotonic()
            state, sums = train_steps(state, examples, key, count, devices)
            parts.append(jax.block_until_ready(sums))
            done, step_seconds = done + count, (time.monotonic() - call_began) / count
        if done == first:
            break
        sums, count, trained = total(parts), done - first, time.monotonic()
        if sums["finite"] < count:
            raise RunError(f"a loss or gradient of epoch {epoch} is not finite: use a lower learning_rate")
        metrics = {name: sums[name] / count for name in ("loss", "accuracy")}
        if tests is not None:
            metrics |= evaluate(eval_step, state.variables, _batches(tests, batch_size))
        if checkpoints is not None:
            checkpoints.save(state)
        after_epoch(epoch, metrics | {"seconds": time.monotonic() - began}, state.variables)
        reserve = time.monotonic() - trained
    return state.variables


def _stretched(training: Training, num_examples: int) -> optax.GradientTransformation:
    """The optimiser whose schedule, that of all epochs, takes as many steps as the hyperparameter in its state says."""
    schedule = training.learning_rate_schedule(num_examples)
    planned = training.planned_steps(num_examples)

    def optimizer(steps: jax.Array) -> optax.GradientTransformation:
        return make_optimizer(training.optimizer, lambda step: schedule(step * planned / steps), training.weight_decay)

    return optax.inject_hyperparams(optimizer)(steps=1.0)


def _checked(name: str, arrays: Arrays, model: nn.Module, training: Training) -> dict[str, np.ndarray]:
    """The images and, as int32, the labels; raises InputError where they are not what `Arrays` says."""
    if not isinstance(arrays, Mapping) or not {"image", "label"} <= arrays.keys():
        raise InputError(f'{name} must have the entries "image" and "label"')
    images, labels = as_array(f'{name}["image"]', arrays["image"]), as_array(f'{name}["label"]', arrays["label"])
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not len(images):
        raise InputError(f'{name}["image"] must be uint8 [n, H, W, 3], not {images.dtype} {list(images.shape)}')
    if labels.shape != images.shape[:1]:
        raise InputError(f'{name}["label"] must have shape [{len(images)}], not {list(labels.shape)}')
    classes = check_training(model, images.shape[1:3], training)
    labels = check_targets(labels, len(labels), classes, name=f'{name}["label"]')[:, 0]
    return {"image": np.asarray(images), "label": np.asarray(labels, np.int32)}


def _batches(examples: dict[str, np.ndarray], batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Batches as of `coda_jax.data.test_batches`: the last one is filled up with examples of weight 0."""
    count = len(examples["label"])
    for start in range(0, count, batch_size):
        places = np.arange(start, start + batch_size)
        chosen = np.minimum(places, count - 1)
        yield {
            "image": examples["image"][chosen].astype(np.float32) / 255,
            "label": examples["label"][chosen],
            "weight": (places < count).astype(np.float32),
        }
