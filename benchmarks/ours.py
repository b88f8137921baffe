"""The measured tasks as coda_jax does them."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from coda_jax import CoDANet, add_inverse
from coda_jax.contributions import contributions
from coda_jax.training import state as training_state
from coda_jax.training.configuration import Training
from coda_jax.training.step import mapped_train_step, mapped_train_steps, split_over_devices

ADAM = optax.adam(2.5e-4)
PIPELINE_STEPS = 20
"""Steps that "pipeline" does in one call of the device."""


@cache
def initial(model: CoDANet) -> dict[str, Any]:
    """The network's variables of random key 0."""
    return jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 6)))


def prepare(model: CoDANet, task: str, images: np.ndarray, labels: np.ndarray) -> Callable[[int], jax.Array]:
    """The program of a task on one batch, with all that it needs in place; its first call compiles it.

    Args:
        model: the network; its parameters are those of `initial`.
        task: "forward" (the logits), "explain" (contributions to the predicted class), "explain_all" (to every class),
            the same with "_gram" behind (given `CoDANet.with_gram`), "train" (a step of Adam that reuses the state's
            memory; the loss) or "pipeline" (as "train", with batches that the device draws out of 50,000 images).
        images: float32 [N, H, W, 3].
        labels: int32 [N].

    Returns:
        The function that does the task so many times in a row, waits for the device, and returns the last result.
        "pipeline" always does `PIPELINE_STEPS`.
    """
    if task == "train":
        return _train(model, images, labels)
    if task == "pipeline":
        return _pipeline(model, images)
    variables = initial(model)
    if task.endswith("_gram"):
        variables = model.with_gram(variables)
    program, images = program_of(model, task.removesuffix("_gram")), jax.device_put(images)

    def run(calls: int) -> jax.Array:
        for _ in range(calls):
            result = program(variables, images)
        return jax.block_until_ready(result)

    return run


def program_of(model: CoDANet, task: str) -> Callable[[dict[str, Any], jax.Array], jax.Array]:
    """The function of variables and images that does "forward", "explain" or "explain_all", to be compiled."""
    function = {
        "forward": model.apply,
        "explain": partial(contributions, model),
        "explain_all": partial(contributions, model, targets="all"),
    }[task]
    return jax.jit(lambda variables, images: function(variables, add_inverse(images)))


def _train(model: CoDANet, images: np.ndarray, labels: np.ndarray) -> Callable[[int], jax.Array]:
    state = training_state.create(model, ADAM, images.shape[1:3], seed=0)
    step = mapped_train_step(model, ADAM, Training())
    batch = jax.device_put(split_over_devices({"image": images, "label": labels}))

    def run(calls: int) -> jax.Array:
        nonlocal state
        for _ in range(calls):
            state, metrics = step(state, batch)
        jax.block_until_ready(state)
        return metrics["loss"]

    return run


def _pipeline(model: CoDANet, images: np.ndarray) -> Callable[[int], jax.Array]:
    batch_size, *image_shape = images.shape
    # A whole number of calls an epoch, so that none reaches into the next.
    num_examples = 50_000 // (batch_size * PIPELINE_STEPS) * batch_size * PIPELINE_STEPS
    rng = np.random.default_rng(0)
    examples = {
        "image": rng.integers(0, 256, (num_examples, *image_shape), np.uint8),
        "label": rng.integers(0, 10, num_examples, np.int32),
    }
    examples = jax.device_put(examples, training_state.replicated())
    state = training_state.create(model, ADAM, image_shape[:2], seed=0)
    steps = mapped_train_steps(model, ADAM, Training(batch_size=batch_size, crop_padding=4))
    key, device = jax.random.key(0), jnp.arange(1)

    def run(calls: int) -> jax.Array:
        nonlocal state
        state, sums = steps(state, examples, key, PIPELINE_STEPS, device)
        jax.block_until_ready(state)
        return sums["loss"] / PIPELINE_STEPS

    return run


def matmul(size: int, dtype: jnp.dtype) -> Callable[[int], jax.Array]:
    """The program that multiplies two matrices [size, size] so many times: what the machine can compute."""
    left, right = jax.random.normal(jax.random.key(0), (2, size, size), dtype)
    product = jax.jit(jnp.matmul)

    def run(calls: int) -> jax.Array:
        for _ in range(calls):
            result = product(left, right)
        return jax.block_until_ready(result)

    return run


def stream(mebibytes: int) -> Callable[[int], jax.Array]:
    """The program that reads and writes an array of that size so many times: what the machine's memory can move."""
    array = jnp.zeros(mebibytes * 2**18, jnp.float32)
    increment = jax.jit(lambda array: array + 1, donate_argnums=0)

    def run(calls: int) -> jax.Array:
        nonlocal array
        for _ in range(calls):
            array = increment(array)
        return jax.block_until_ready(array)

    return run
