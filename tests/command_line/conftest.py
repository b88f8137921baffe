"""A trained network for the tests of this folder."""

import jax
import jax.numpy as jnp
import optax
import pytest

from coda_jax import CoDANet
from coda_jax.command_line import main
from coda_jax.data import DatasetInfo, Preprocessing
from coda_jax.networks.architectures import make_model
from coda_jax.networks.config_file import save_config
from coda_jax.training.checkpoints import Checkpoints
from coda_jax.training.state import TrainState, create

ATTRIBUTES = {"channels": (6, 3), "ranks": (4, 4), "kernel_sizes": (3, 1), "strides": (1, 1), "paddings": (1, 0)}
INFO = DatasetInfo(("cat", "dog", "<b>\x1b[31m"), Preprocessing(8, 8))


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The directory of a run: a random network with three classes, for images of 8×8 pixels."""
    workdir = tmp_path_factory.mktemp("trained")
    model = CoDANet(**ATTRIBUTES, temperature=2.0)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 6)))["params"]
    save_config(workdir, {"dataset": "digits", "model": {**ATTRIBUTES, "temperature": 2.0}}, INFO)
    Checkpoints(workdir / "checkpoints").save(TrainState(jnp.int32(7), params, optax.EmptyState()))
    return workdir


@pytest.fixture(scope="session")
def hybrid(tmp_path_factory):
    """The same of a hybrid, whose features are of 4×4 positions."""
    attributes = {
        "architecture": "hybrid",
        "trunk": {"architecture": "resnet", "depth": 8, "blocks": 2},
        "head": {**ATTRIBUTES, "temperature": 2.0},
    }
    return untrained(tmp_path_factory.mktemp("hybrid"), attributes)


@pytest.fixture(scope="session")
def bcos(tmp_path_factory):
    """The same of a B-cos network."""
    attributes = {"architecture": "bcos_resnet", "blocks": [1], "num_classes": 3, "width": 4, "small_images": True}
    return untrained(tmp_path_factory.mktemp("bcos"), attributes)


def untrained(workdir, attributes):
    """The directory of a run of this network that has not made a step."""
    state = create(make_model(attributes), optax.identity(), (8, 8), seed=0)
    save_config(workdir, {"dataset": "digits", "model": attributes}, INFO)
    Checkpoints(workdir / "checkpoints").save(state)
    return workdir


@pytest.fixture
def command(capsys):
    """Runs a command: (exit status, standard output, standard error)."""

    def run(*arguments):
        status = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as exit:
            status = exit.code
        out, err = capsys.readouterr()
        return (1, out, f"{err}{status}\n") if isinstance(status, str) else (status or 0, out, err)

    return run
