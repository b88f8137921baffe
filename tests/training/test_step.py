from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from coda_jax import InputError, add_inverse
from coda_jax.data import on_device
from coda_jax.training import state as training_state
from coda_jax.training import step as training_step
from coda_jax.training.configuration import Training
from coda_jax.training.losses import binary_cross_entropy, draw_penalised_classes, weight_penalty
from coda_jax.training.step import (
    check_batch_size,
    mapped_eval_step,
    mapped_train_step,
    mapped_train_steps,
    split_over_devices,
    total,
)
from tests.training.problem import DATASET, MODEL, NORMALISED, OPTIMIZER

pytestmark = pytest.mark.devices

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
    step = mapped_train_step(MODEL, OPTIMIZER, Training())
    for count in range(1, 4):
        (expected_loss, logits), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        updates, opt_state = jax.jit(OPTIMIZER.update)(gradients, opt_state)
        params = optax.apply_updates(params, updates)
        state, metrics = step(state, split_over_devices(BATCH))
        assert int(state.step) == count
        # Means over 16 examples, or over devices of means over their shares: float32 rounding.
        np.testing.assert_allclose(metrics["loss"], expected_loss, rtol=1e-5)
        np.testing.assert_allclose(metrics["accuracy"], np.mean(np.argmax(logits, -1) == BATCH["label"]), rtol=1e-6)
    for ours, expected in zip(jax.tree.leaves(state.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_penalty_is_that_of_the_whole_batch(accumulation):
    drawn = draw_penalised_classes(jax.random.fold_in(jax.random.key(0), 0), BATCH["label"], jnp.arange(16), 2)
    assert 0 < np.sum(drawn == BATCH["label"]) < 16

    def objective(params):
        logits, linear_map = MODEL.apply({"params": params}, add_inverse(BATCH["image"]), method="decompose")
        value = jnp.mean(weight_penalty(linear_map, drawn[:, None]))
        return jnp.mean(binary_cross_entropy(logits, BATCH["label"])) + 0.5 * value, value

    params = jax.tree.map(np.asarray, first_state().params)
    (_, value), gradients = jax.jit(jax.value_and_grad(objective, has_aux=True))(params)
    optimizer = optax.sgd(1.0)
    state = training_state.create(MODEL, optimizer, (4, 4), seed=0)
    training = Training(accumulation=accumulation, penalty=0.5)
    state, metrics = mapped_train_step(MODEL, optimizer, training)(state, split_over_devices(BATCH))
    # Means over 16 examples, or over devices of means over their shares: float32 rounding.
    np.testing.assert_allclose(metrics["penalty"], value, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], jax.jit(loss)(params)[0], rtol=1e-5)
    for ours, before, gradient in zip(*map(jax.tree.leaves, (state.params, params, gradients)), strict=True):
        np.testing.assert_allclose(before - ours, gradient, rtol=0, atol=1e-5 * np.abs(before).max())


def test_the_given_state_is_donated():
    state = first_state()
    mapped_train_step(MODEL, OPTIMIZER, Training())(state, split_over_devices(BATCH))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


# 50 examples in batches of 16: epochs end with steps 4, 7, 10, 13 and 16.
EPOCHS = (4, 3, 3, 3, 3)
DEVICES = jax.device_count()


@pytest.fixture
def seen(monkeypatch):
    """A function that returns the indices of the examples in the batches of each step of given segments."""

    def record(state, batch, *, model, optimizer, training):
        indices = jax.lax.all_gather(batch["label"], training_state.AXIS, tiled=True)
        metrics = {"loss": jnp.float32(1), "accuracy": jnp.float32(state.step), "finite": jnp.float32(1)}
        return state.replace(step=state.step + 1, params=state.params.at[state.step].set(indices)), metrics

    monkeypatch.setattr(training_step, "train_step", record)

    @cache
    def steps(batch_size):
        return mapped_train_steps(None, None, Training(batch_size=batch_size, flip=False, crop_padding=1))

    def indices_of(segments, start=0, batch_size=16, seed=0, devices=DEVICES):
        examples = {"image": np.zeros((50, 4, 4, 3), np.uint8), "label": np.arange(50)}
        state = training_state.TrainState(np.int32(start), np.zeros((sum(EPOCHS), batch_size), np.int32), ())
        for count in segments:
            before = int(state.step)
            state, sums = steps(batch_size)(state, examples, jax.random.key(seed), count, np.arange(devices))
            assert total([sums]) == {"loss": count, "accuracy": sum(range(before, before + count)), "finite": count}
        return np.asarray(state.params)[start : start + sum(segments)]

    return indices_of


@pytest.mark.parametrize(("segments", "batch_size"), [(EPOCHS, 16), ((1, 1, 1), 128)])
def test_every_epoch_is_a_new_permutation(seen, segments, batch_size):
    stream = seen(segments, batch_size=batch_size).reshape(-1)
    epochs = stream[: len(stream) // 50 * 50].reshape(-1, 50)
    assert len(epochs) >= 5
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.broadcast_to(np.arange(50), epochs.shape))
    assert len(np.unique(epochs, axis=0)) == len(epochs)


def test_batches_depend_on_the_seed_and_their_number_alone(seen):
    expected = seen(EPOCHS)
    np.testing.assert_array_equal(seen((1, 2, 1, 1, 2, 3, 1, 1, 1, 3)), expected)
    np.testing.assert_array_equal(seen((2, 3, 3, 3), start=5), expected[5:])
    np.testing.assert_array_equal(seen(EPOCHS, devices=1), expected)
    assert not np.array_equal(seen(EPOCHS, seed=1), expected)


def test_positions_count_through_all_epochs(seen, monkeypatch):
    def positions_alone(examples, indices, key, positions, **settings):
        assert settings == {"flip": False, "crop_padding": 1}
        return {"label": positions}

    monkeypatch.setattr(on_device, "augmented_batch", positions_alone)
    np.testing.assert_array_equal(seen(EPOCHS).reshape(-1), np.arange(16 * sum(EPOCHS)))


def test_steps_on_resident_examples():
    examples = on_device.read(DATASET.train)
    first = jax.device_get(first_state())
    steps = mapped_train_steps(MODEL, OPTIMIZER, Training(batch_size=16, crop_padding=1))

    def trained(*segments, devices=DEVICES):
        state = first
        for count in segments:
            state, _ = steps(state, examples, jax.random.key(0), count, np.arange(devices))
        return jax.device_get(state)

    whole = trained(*EPOCHS)
    assert whole.step == sum(EPOCHS)
    jax.tree.map(np.testing.assert_array_equal, trained(1, 3, 2, 1, 3, 1, 1, 1, 3), whole)
    # The devices' sums differ in their order only. `make test` runs this with eight of them.
    jax.tree.map(lambda *pair: np.testing.assert_allclose(*pair, rtol=0, atol=1e-5), trained(*EPOCHS, devices=1), whole)


def test_eval_step_sums_with_weights():
    state = first_state()
    weights = np.arange(16, dtype=np.float32) % 2
    sums = mapped_eval_step(MODEL)(state.variables, split_over_devices(BATCH | {"weight": weights}))
    logits = jax.jit(MODEL.apply)(state.variables, add_inverse(BATCH["image"]))
    np.testing.assert_allclose(sums["loss"], weights @ binary_cross_entropy(logits, BATCH["label"]), rtol=1e-5)
    assert sums["accuracy"] == weights @ (np.argmax(logits, -1) == BATCH["label"])
    assert sums["weight"] == 8


def test_total():
    assert total([{"loss": jnp.float32(0.5)}, {"loss": jnp.float32(3)}]) == {"loss": 3.5}


def test_batch_size_and_devices():
    devices = jax.device_count()
    check_batch_size(3 * devices)
    for wrong in (0, -devices, *([devices + 1] if devices > 1 else [])):
        with pytest.raises(
            InputError, match=f"batch_size is {wrong}, but must be a positive multiple of the {devices}"
        ):
            check_batch_size(wrong)
    check_batch_size(6 * devices, accumulation=3)
    with pytest.raises(InputError, match=rf"multiple of the {devices} device\(s\) times 2 accumulated parts"):
        check_batch_size(3 * devices, accumulation=2)


def test_accumulated_parts_give_the_gradient_of_the_whole():
    batch = {key: np.tile(array, (2, *[1] * (array.ndim - 1))) for key, array in BATCH.items()}
    states = [
        mapped_train_step(MODEL, optax.sgd(1.0), Training(accumulation=accumulation))(
            training_state.create(MODEL, optax.sgd(1.0), (4, 4), seed=0), split_over_devices(batch)
        )
        for accumulation in (1, 4)
    ]
    (whole, metrics), (parts, part_metrics) = states
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(part_metrics[name], metrics[name], rtol=1e-6)
    first = first_state().params
    for ours, expected, before in zip(*map(jax.tree.leaves, (parts.params, whole.params, first)), strict=True):
        # Gradients are what the parameters moved by, whose rounding is 1e-7 of them.
        step = np.asarray(expected) - before
        assert np.linalg.norm(step) > 0
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5 * np.abs(step).max() + 1e-6)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_batch_normalisation_is_by_each_part_and_its_averages_are_over_all(accumulation):
    state = training_state.create(NORMALISED, OPTIMIZER, (4, 4), seed=0)
    assert jax.tree.map(np.ndim, state.variables["batch_stats"]) == {"BatchNorm_0": {"mean": 1, "var": 1}}
    params, before = jax.device_get((state.params, state.batch_stats["BatchNorm_0"]))
    step = mapped_train_step(NORMALISED, OPTIMIZER, Training(accumulation=accumulation))
    state, metrics = step(state, split_over_devices(BATCH))
    parts = jax.device_count() * accumulation
    images = add_inverse(BATCH["image"]).reshape(parts, -1, 4, 4, 6)
    features = jax.jit(jax.vmap(nn.Conv(6, (3, 3)).apply, (None, 0)))({"params": params["Conv_0"]}, images)
    for name, of_parts in (("mean", features.mean((1, 2, 3))), ("var", features.var((1, 2, 3)))):
        # float32 sums in another order; the momentum of the running averages is 0.75.
        expected = 0.75 * before[name] + 0.25 * of_parts.mean(0)
        np.testing.assert_allclose(state.batch_stats["BatchNorm_0"][name], expected, rtol=1e-5, atol=1e-6)
    apply = jax.jit(partial(NORMALISED.apply, train=True, mutable=["batch_stats"]))
    logits = [apply({"params": params, "batch_stats": {"BatchNorm_0": before}}, part)[0] for part in images]
    expected = jnp.mean(binary_cross_entropy(np.concatenate(logits), BATCH["label"]))
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
    # Evaluation normalises by the averages, and leaves them as they are.
    sums = mapped_eval_step(NORMALISED)(
        state.variables, split_over_devices(BATCH | {"weight": np.ones(16, np.float32)})
    )
    evaluated = binary_cross_entropy(
        jax.jit(NORMALISED.apply)(state.variables, add_inverse(BATCH["image"])), BATCH["label"]
    )
    np.testing.assert_allclose(sums["loss"], jnp.sum(evaluated), rtol=1e-5)
