"""Steps of training and evaluation, over all devices of all processes."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import lax

from coda_jax.data import on_device
from coda_jax.errors import InputError
from coda_jax.networks.coda_net import CoDANet
from coda_jax.networks.encoding import add_inverse
from coda_jax.training.configuration import Training
from coda_jax.training.losses import binary_cross_entropy, draw_penalised_classes, weight_penalty
from coda_jax.training.state import AXIS, TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


def train_step(
    state: TrainState, batch: Batch, *, model: nn.Module, optimizer: optax.GradientTransformation, training: Training
) -> tuple[TrainState, Metrics]:
    """One step of the optimiser, with gradients and metrics averaged over the axis `AXIS`.

    Batch normalisation is by the statistics of what is computed at once, a part of a device's share; the running
    averages take in the mean of the parts' and devices' statistics.

    Args:
        state: the same on every device.
        batch: this device's {"image": float32 [n, H, W, 3], "label": int32 [n]}.
        model: a `CoDANet`, or any module from inputs to logits [n, K]; one with batch normalisation is given
            `train=True` besides.
        optimizer: the one that made the state's `opt_state`.
        training: `accumulation`, a divisor of n, and `penalty`, 0 but for a `CoDANet`, matter here. The classes that
            are penalised are a function of the step and the place in the batch.

    Returns:
        (the next state, the metrics), the same on every device. The metrics are float32 []: "loss" in nats, without the
        penalty; "accuracy" in [0, 1]; "finite", 1 if the loss and the gradients are finite, else 0; and, if λ is not 0,
        "penalty", without λ.
    """
    accumulation, penalty = training.accumulation, training.penalty
    if penalty:
        share = len(batch["label"])
        positions = lax.axis_index(AXIS) * share + jnp.arange(share)
        key = jax.random.fold_in(jax.random.key(0), state.step)
        drawn = draw_penalised_classes(key, batch["label"], positions, model.channels[-1])
        batch = {**batch, "penalised": drawn[:, None]}

    def objective(params: dict, batch: Batch) -> tuple[jax.Array, tuple[Metrics, dict]]:
        inputs, batch_stats = add_inverse(batch["image"]), {}
        variables = dataclasses.replace(state, params=params).variables
        if penalty:
            logits, linear_map = model.apply(variables, inputs, method="decompose")
        elif state.batch_stats:
            logits, updated = model.apply(variables, inputs, train=True, mutable=["batch_stats"])
            batch_stats = updated["batch_stats"]
        else:
            logits = model.apply(variables, inputs)
        loss = jnp.mean(binary_cross_entropy(logits, batch["label"]))
        metrics = {"loss": loss, "accuracy": jnp.mean(jnp.argmax(logits, axis=-1) == batch["label"])}
        if penalty:
            metrics["penalty"] = jnp.mean(weight_penalty(linear_map, batch["penalised"]))
            loss += penalty * metrics["penalty"]
        return loss, (metrics, batch_stats)

    gradients_of = partial(jax.grad(objective, has_aux=True), state.params)
    if accumulation == 1:
        means = gradients_of(batch)
    else:
        parts = jax.tree.map(lambda array: array.reshape(accumulation, -1, *array.shape[1:]), batch)
        zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(gradients_of, batch))
        sums, _ = lax.scan(lambda sums, part: (jax.tree.map(jnp.add, sums, gradients_of(part)), None), zeros, parts)
        means = jax.tree.map(lambda leaf: leaf / accumulation, sums)
    gradients, (metrics, batch_stats) = lax.pmean(means, AXIS)
    metrics["finite"] = jnp.isfinite(metrics["loss"] + optax.tree.norm(gradients)).astype(jnp.float32)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state, batch_stats), metrics


def mapped_train_step(
    model: nn.Module, optimizer: optax.GradientTransformation, training: Training
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """`train_step` for this process's share of a batch, [devices, n, ...]; the state's memory is reused."""
    step = partial(train_step, model=model, optimizer=optimizer, training=training)
    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0)


def mapped_train_steps(
    model: nn.Module, optimizer: optax.GradientTransformation, training: Training
) -> Callable[[TrainState, on_device.Examples, jax.Array, int, jax.Array], tuple[TrainState, Metrics]]:
    """`train_step` many times over all devices, on batches that they draw.

    Batch `i` is a function of the key and `i` alone: the next `batch_size` examples of a stream in which every epoch is
    a new permutation of all examples.

    The function's arguments are the state, whose memory is reused; all training examples, of which up to 2³¹ - 1 can be
    seen in a run; the key of the order and the augmentation; the number of steps, at most up to the one with which the
    epoch of the first example ends; and int32 [devices], the indices of this process's devices on the axis `AXIS`. It
    returns the next state and the sums of the steps' metrics. One program serves every number of steps.
    """

    def steps(
        state: TrainState, examples: on_device.Examples, key: jax.Array, count: jax.Array, device: jax.Array
    ) -> tuple[TrainState, Metrics]:
        batch_size, num_examples = training.batch_size, len(examples["label"])
        order_key, augmentation_key = jax.random.split(key)
        epoch, offset = jnp.divmod(state.step * batch_size, num_examples)
        # Sorting takes too long for every step. The last batch reaches into as many epochs as it has room for.
        num_epochs = 1 + math.ceil(batch_size / num_examples)
        orders = on_device.epoch_orders(order_key, epoch, num_epochs=num_epochs, num_examples=num_examples)
        share = batch_size // lax.axis_size(AXIS)
        own = offset + device * share + jnp.arange(share)

        def step(i: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, sums = carry
            since_epoch = own + i * batch_size
            batch = on_device.augmented_batch(
                examples,
                orders.reshape(-1)[since_epoch],
                augmentation_key,
                epoch * num_examples + since_epoch,
                flip=training.flip,
                crop_padding=training.crop_padding,
            )
            state, metrics = train_step(state, batch, model=model, optimizer=optimizer, training=training)
            return state, jax.tree.map(jnp.add, sums, metrics)

        names = ("loss", "accuracy", "finite") + (("penalty",) if training.penalty else ())
        return lax.fori_loop(0, count, step, (state, dict.fromkeys(names, jnp.zeros(()))))

    return jax.pmap(steps, axis_name=AXIS, in_axes=(None, None, None, None, 0), out_axes=None, donate_argnums=0)


def mapped_eval_step(model: nn.Module) -> Callable[[dict, Batch], Metrics]:
    """A function of the network's variables and this process's share of a batch, which sums metrics over all processes.

    It takes {"image": float32 [devices, n, H, W, 3], "label": int32 [devices, n], "weight": float32 [devices, n]}, and
    returns "loss", "accuracy" and "weight", [] each: the sums over all examples, each times its weight.
    """

    def step(variables: dict, batch: Batch) -> Metrics:
        logits = model.apply(variables, add_inverse(batch["image"]))
        sums = {
            "loss": binary_cross_entropy(logits, batch["label"]),
            "accuracy": (jnp.argmax(logits, axis=-1) == batch["label"]).astype(jnp.float32),
            "weight": jnp.ones_like(batch["weight"]),
        }
        return lax.psum(jax.tree.map(lambda values: jnp.vdot(values, batch["weight"]), sums), AXIS)

    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=None)


def split_over_devices(batch: Batch) -> Batch:
    """[n, ...] -> [devices, n / devices, ...] for every array of this process's share of a batch."""
    return jax.tree.map(lambda array: array.reshape(jax.local_device_count(), -1, *array.shape[1:]), batch)


def total(metrics: Sequence[Metrics]) -> dict[str, float]:
    """The sums of several steps' metrics, which are fetched together: to fetch is to wait for the device."""
    return jax.tree.map(lambda *values: float(np.sum(values, dtype=np.float64)), *jax.device_get(metrics))


def check_batch_size(batch_size: int, accumulation: int = 1) -> None:
    """Raise InputError unless all devices can share the batch, and each share can be cut into `accumulation` parts."""
    devices = jax.device_count()
    if batch_size < 1 or batch_size % (devices * accumulation):
        parts = f"{devices} device(s)" + (f" times {accumulation} accumulated parts" if accumulation > 1 else "")
        raise InputError(f"batch_size is {batch_size}, but must be a positive multiple of the {parts}")


def check_training(model: nn.Module, image_size: tuple[int, int], training: Training) -> int:
    """The number of classes of a network for images of `image_size` (H, W) in pixels.

    Raises InputError if the devices cannot share a batch, if a kernel is larger than the images, or if there is a
    penalty and the network is no `CoDANet`.
    """
    check_batch_size(training.batch_size, training.accumulation)
    if training.penalty and not isinstance(model, CoDANet):
        raise InputError(f"penalty must be 0 but for CoDA-Nets: {type(model).__name__} has no matrix W(x)")
    inputs = jax.ShapeDtypeStruct((1, *image_size, 6), np.float32)
    logits, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), inputs)
    return logits.shape[-1]
