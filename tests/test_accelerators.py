"""Programs for accelerators, which a machine without one can make, though not run."""

import re
from functools import cache

import jax
import jax.export
import jax.numpy as jnp
import pytest

from coda_jax import CoDANet, add_inverse
from coda_jax.contributions import contributions
from coda_jax.networks.coda_net import L_CODA, M_CODA, S_CODA
from coda_jax.training.configuration import Training
from coda_jax.training.state import create
from coda_jax.training.step import mapped_eval_step, mapped_train_step, mapped_train_steps

TRAINING = Training(batch_size=16)
OPTIMIZER = TRAINING.make_optimizer(50_000)
# On a CPU 16 images would be taken in parts; a single one takes less time to trace.
NETWORKS = {"S": (S_CODA, 32, 16), "M": (M_CODA, 64, 1), "L": (L_CODA, 240, 1)}
each_network = pytest.mark.parametrize("name", list(NETWORKS))


def array(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


@cache
def network(name):
    """The model, the shapes of a training state, and those of a batch of its images for evaluation."""
    layers, size, count = NETWORKS[name]
    model = CoDANet(**layers, temperature=1000.0)
    state = jax.eval_shape(lambda: create(model, OPTIMIZER, (size, size), seed=0))
    weights, labels = array(1, count), array(1, count, dtype=jnp.int32)
    return model, state, {"image": array(1, count, size, size, 3), "label": labels, "weight": weights}


def loops(function, *arguments):
    """The number of loops in the program that JAX exports for TPUs and CUDA together."""
    exported = jax.export.export(jax.jit(function), platforms=("tpu", "cuda"))(*arguments)
    program = exported.mlir_module()
    assert set(re.findall(r"custom_call @(\w+)", program)) <= {"Sharding"}  # Any other would be one platform's own.
    return program.count("stablehlo.while")


@each_network
def test_training_step(name):
    model, state, batch = network(name)
    batch = {key: batch[key] for key in ("image", "label")}
    assert loops(mapped_train_step(model, OPTIMIZER, TRAINING), state, batch) == 0


@each_network
def test_evaluation(name):
    model, state, batch = network(name)
    assert loops(mapped_eval_step(model), state.variables, batch) == 0


@each_network
def test_contributions(name):
    model, state, batch = network(name)

    def explain(variables, images):
        return contributions(model, variables, add_inverse(images))

    assert loops(explain, state.variables, array(*batch["image"].shape[1:])) == 0


def test_pipeline_on_the_device():
    model, state, _ = network("S")
    examples = {"image": array(50_000, 32, 32, 3, dtype=jnp.uint8), "label": array(50_000, dtype=jnp.int32)}
    key = jax.eval_shape(lambda: jax.random.key(0))
    numbers = array(dtype=jnp.int32), array(1, dtype=jnp.int32)
    steps = mapped_train_steps(model, OPTIMIZER, TRAINING)
    assert loops(steps, state, examples, key, *numbers) == 1  # That over the steps.
