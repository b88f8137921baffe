"""One step of training or evaluation as a function of one device's share of a batch."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import lax

from coda_jax.encoding import add_inverse
from coda_jax.errors import InputError
from coda_jax.losses import binary_cross_entropy
from coda_jax.models import CoDANet
from coda_jax.training.state import AXIS, TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


def train_step(
    state: TrainState, batch: Batch, *, model: CoDANet, optimizer: optax.GradientTransformation
) -> tuple[TrainState, Metrics]:
    """One step of the optimiser, with gradients and metrics averaged over the axis `AXIS`.

    Args:
        state: the same on every device.
        batch: this device's {"image": float32 [n, H, W, 3], "label": int32 [n]}.
        model: the network.
        optimizer: the one that made the state's `opt_state`.

    Returns:
        (the next state, {"loss": [] in nats, "accuracy": [] in [0, 1]}), the same on every device.
    """

    def loss_and_logits(params: dict) -> tuple[jax.Array, jax.Array]:
        logits = model.apply({"params": params}, add_inverse(batch["image"]))
        return jnp.mean(binary_cross_entropy(logits, batch["label"])), logits

    (loss, logits), gradients = jax.value_and_grad(loss_and_logits, has_aux=True)(state.params)
    accuracy = jnp.mean(jnp.argmax(logits, axis=-1) == batch["label"])
    gradients, metrics = lax.pmean((gradients, {"loss": loss, "accuracy": accuracy}), AXIS)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state), metrics


def eval_step(params: dict, batch: Batch, *, model: CoDANet) -> Metrics:
    """Sums of the metrics over a batch, over all devices of the axis `AXIS`.

    Args:
        params: the same on every device.
        batch: this device's {"image": float32 [n, H, W, 3], "label": int32 [n], "weight": float32 [n]}.
        model: the network.

    Returns:
        {"loss", "accuracy", "weight"}: [] each, sums over the examples, times their weights.
    """
    logits = model.apply({"params": params}, add_inverse(batch["image"]))
    sums = {
        "loss": binary_cross_entropy(logits, batch["label"]),
        "accuracy": (jnp.argmax(logits, axis=-1) == batch["label"]).astype(jnp.float32),
        "weight": jnp.ones_like(batch["weight"]),
    }
    return lax.psum(jax.tree.map(lambda values: jnp.vdot(values, batch["weight"]), sums), AXIS)


def mapped_train_step(
    model: CoDANet, optimizer: optax.GradientTransformation
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """`train_step` over all devices, for batches [devices, n, ...]; the given state's memory is reused."""
    step = partial(train_step, model=model, optimizer=optimizer)
    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0)


def mapped_eval_step(model: CoDANet) -> Callable[[dict, Batch], Metrics]:
    """`eval_step` over all devices, for batches [devices, n, ...]."""
    return jax.pmap(partial(eval_step, model=model), axis_name=AXIS, in_axes=(None, 0), out_axes=None)


def split_over_devices(batch: Batch) -> Batch:
    """[N, ...] -> [devices, N / devices, ...] for every array of a batch whose size `check_batch_size` accepts."""
    devices = jax.local_device_count()
    return {key: array.reshape(devices, -1, *array.shape[1:]) for key, array in batch.items()}


def check_batch_size(batch_size: int) -> None:
    """Raise InputError unless the batch can be shared among the devices."""
    devices = jax.local_device_count()
    if batch_size < 1 or batch_size % devices:
        raise InputError(f"batch_size is {batch_size}, but must be a positive multiple of the {devices} device(s)")
