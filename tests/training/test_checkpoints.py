import shutil
import threading
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from coda_jax import InputError
from coda_jax.training import state
from coda_jax.training.checkpoints import Checkpoints
from tests.training.problem import MODEL, NORMALISED, OPTIMIZER

# What Orbax began when it failed, it leaves to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@cache
def first_state(model):
    return state.create(model, OPTIMIZER, (4, 4), seed=0)


def at_step(step, offset=0, model=MODEL):
    """A state with the given step, all of whose parameters are moved by the offset."""
    first = first_state(model)
    params = jax.tree.map(lambda leaf: leaf + offset, first.params)
    return first.replace(step=first.step + step, params=params)


@pytest.mark.devices
def test_the_newest_state_comes_back_where_it_was(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest_step() is None
    for step in (3, 7, 12):
        checkpoints.save(at_step(step, offset=step))
    reopened = Checkpoints(tmp_path)
    restored, expected = reopened.restore(at_step(0)), at_step(12, offset=12)
    jax.tree.map(np.testing.assert_array_equal, restored, expected)
    assert jax.tree.map(lambda leaf: leaf.sharding, restored) == jax.tree.map(lambda leaf: leaf.sharding, expected)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.isdigit()) == ["12", "7"]


@pytest.mark.devices
@pytest.mark.parametrize("model", [MODEL, NORMALISED], ids=["plain", "with batch normalisation"])
def test_variables_alone_come_back_on_one_device(tmp_path, model):
    saved = state.create(model, OPTIMIZER, (4, 4), seed=0)
    Checkpoints(tmp_path).save(saved)
    variables = Checkpoints(tmp_path).restore_variables(model)
    jax.tree.map(np.testing.assert_array_equal, variables, saved.variables)
    assert all(len(leaf.sharding.device_set) == 1 for leaf in jax.tree.leaves(variables))


def test_a_checkpoint_of_before_there_was_batch_normalisation(tmp_path):
    saved = at_step(3, offset=2)
    manager = ocp.CheckpointManager(tmp_path, item_handlers=ocp.PyTreeCheckpointHandler())
    manager.save(3, args=ocp.args.PyTreeSave({key: getattr(saved, key) for key in ("step", "params", "opt_state")}))
    manager.close()
    jax.tree.map(np.testing.assert_array_equal, Checkpoints(tmp_path).restore(at_step(0)), saved)


def test_saving_a_step_twice_keeps_the_first(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(at_step(3, offset=1))
    checkpoints.save(at_step(3, offset=2))
    jax.tree.map(np.testing.assert_array_equal, checkpoints.restore(at_step(0)), at_step(3, offset=1))


@pytest.mark.devices
def test_saving_goes_on_while_the_state_is_changed(tmp_path, monkeypatch):
    go_on, finalize = threading.Event(), ocp.PyTreeCheckpointHandler.finalize

    def slow(handler, directory):
        assert go_on.wait(60)
        finalize(handler, directory)

    monkeypatch.setattr(ocp.PyTreeCheckpointHandler, "finalize", slow)
    checkpoints, first = Checkpoints(tmp_path), jax.tree.map(jnp.copy, at_step(3, offset=3))
    saved = jax.tree.map(np.array, first)
    checkpoints.begin(first)
    # As by the next step of training, which reuses the memory.
    jax.block_until_ready(jax.jit(partial(jax.tree.map, lambda leaf: leaf + 1), donate_argnums=0)(first))
    assert not (tmp_path / "3").exists()
    go_on.set()
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, Checkpoints(tmp_path).restore(at_step(0)), saved)


def test_an_unfinished_checkpoint_is_not_seen(tmp_path):
    Checkpoints(tmp_path).save(at_step(3))
    (tmp_path / "5.orbax-checkpoint-tmp").mkdir()
    assert Checkpoints(tmp_path).latest_step() == 3


def spoil(path, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


FILES = ["default/_METADATA", "default/manifest.ocdbt", "default/d/*", "default/ocdbt.process_0/d/*"]


@pytest.mark.parametrize("how", ["truncated", "flipped"])
@pytest.mark.parametrize("pattern", FILES)
def test_a_damaged_checkpoint_is_moved_aside_and_the_one_before_is_used(tmp_path, capsys, pattern, how):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(at_step(3, offset=3))
    checkpoints.save(at_step(5, offset=5))
    for path in (tmp_path / "5").glob(pattern):
        spoil(path, how)
    reopened = Checkpoints(tmp_path)
    restored = reopened.restore(at_step(0))
    jax.tree.map(np.testing.assert_array_equal, restored, at_step(3, offset=3))
    line = capsys.readouterr().err
    assert f"the checkpoint of step 5 in {tmp_path} is damaged (" in line and "using that of step 3" in line
    assert (tmp_path / "5.damaged").is_dir()
    reopened.save(at_step(5, offset=6))
    jax.tree.map(np.testing.assert_array_equal, Checkpoints(tmp_path).restore(at_step(0)), at_step(5, offset=6))


def test_every_flipped_byte_is_harmless_or_noticed(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path / "good")
    checkpoints.save(at_step(3, offset=3))
    checkpoints.save(at_step(5, offset=5))
    steps = {step: at_step(step, offset=step) for step in (3, 5)}
    rng = np.random.default_rng(0)
    files = sorted(path for path in (tmp_path / "good" / "5").rglob("*") if path.is_file())
    for i, path in enumerate(rng.choice(files, 25)):
        copy = tmp_path / str(i)
        shutil.copytree(tmp_path / "good", copy)
        spoiled = copy / path.relative_to(tmp_path / "good")
        content = bytearray(spoiled.read_bytes())
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        spoiled.write_bytes(content)
        restored = Checkpoints(copy).restore(at_step(0))
        jax.tree.map(np.testing.assert_array_equal, restored, steps[int(restored.step)])


def test_no_whole_checkpoint(tmp_path):
    Checkpoints(tmp_path).save(at_step(3))
    spoil(tmp_path / "3" / "default" / "_METADATA", "truncated")
    with pytest.raises(InputError, match=f"no checkpoint in {tmp_path} can be read: that of step 3 is damaged"):
        Checkpoints(tmp_path).restore(at_step(0))
    assert (tmp_path / "3").is_dir()


def test_no_checkpoint(tmp_path):
    with pytest.raises(InputError, match=f"there is no checkpoint in {tmp_path}: train first"):
        Checkpoints(tmp_path).restore(at_step(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"ranks": (4, 5)},
            r"its layers_1/A has shape \(1, 1, 6, 2, 4\), but this network's has \(1, 1, 6, 2, 5\)",
        ),
        (
            {"channels": (2,), "ranks": (4,), "kernel_sizes": (3,), "strides": (1,), "paddings": (1,)},
            r"its layers_0/A has shape \(3, 3, 6, 6, 4\), but this network's has \(3, 3, 6, 2, 4\)",
        ),
    ],
)
def test_another_architecture(tmp_path, changes, message):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(at_step(3))
    with pytest.raises(InputError, match="is of another architecture: " + message):
        checkpoints.restore(at_step(0, model=MODEL.clone(**changes)))
