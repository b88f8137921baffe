import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from coda_jax import InputError, add_inverse
from coda_jax.losses import binary_cross_entropy
from coda_jax.training import state as training_state
from coda_jax.training.step import check_batch_size, mapped_eval_step, mapped_train_step, split_over_devices
from tests.training.problem import DATASET, MODEL, OPTIMIZER

BATCH = {
    "image": np.stack([example["image"] for example in DATASET.train[:16]]).astype(np.float32) / 255,
    "label": np.array([example["label"] for example in DATASET.train[:16]], np.int32),
}


def first_state():
    return training_state.create(MODEL, OPTIMIZER, (4, 4), seed=0)


def loss(params):
    logits = MODEL.apply({"params": params}, add_inverse(BATCH["image"]))
    return jnp.mean(binary_cross_entropy(logits, BATCH["label"])), logits


def test_a_step_over_all_devices_is_a_step_on_the_whole_batch():
    state = first_state()
    params, opt_state = jax.tree.map(np.asarray, (state.params, state.opt_state))
    step = mapped_train_step(MODEL, OPTIMIZER)
    for count in range(1, 4):
        (expected_loss, logits), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        updates, opt_state = OPTIMIZER.update(gradients, opt_state)
        params = optax.apply_updates(params, updates)
        state, metrics = step(state, split_over_devices(BATCH))
        assert int(state.step) == count
        # Means over 16 examples, or over devices of means over their shares: float32 rounding.
        np.testing.assert_allclose(metrics["loss"], expected_loss, rtol=1e-5)
        np.testing.assert_allclose(metrics["accuracy"], np.mean(np.argmax(logits, -1) == BATCH["label"]), rtol=1e-6)
    for ours, expected in zip(jax.tree.leaves(state.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_given_state_is_donated():
    state = first_state()
    mapped_train_step(MODEL, OPTIMIZER)(state, split_over_devices(BATCH))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


def test_eval_step_sums_with_weights():
    state = first_state()
    weights = np.arange(16, dtype=np.float32) % 2
    sums = mapped_eval_step(MODEL)(state.params, split_over_devices(BATCH | {"weight": weights}))
    logits = jax.jit(MODEL.apply)({"params": state.params}, add_inverse(BATCH["image"]))
    np.testing.assert_allclose(sums["loss"], weights @ binary_cross_entropy(logits, BATCH["label"]), rtol=1e-5)
    assert sums["accuracy"] == weights @ (np.argmax(logits, -1) == BATCH["label"])
    assert sums["weight"] == 8


def test_batch_size_and_devices():
    devices = jax.device_count()
    check_batch_size(3 * devices)
    for wrong in (0, -devices, *([devices + 1] if devices > 1 else [])):
        with pytest.raises(
            InputError, match=f"batch_size is {wrong}, but must be a positive multiple of the {devices}"
        ):
            check_batch_size(wrong)
