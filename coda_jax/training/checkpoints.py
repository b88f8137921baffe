"""Checkpoints of a run, by Orbax."""

import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import linen as nn
from jax.experimental import multihost_utils
from jax.sharding import Sharding, SingleDeviceSharding

from coda_jax.errors import InputError, RunError, one_line
from coda_jax.training.state import TrainState, replicated


class Checkpoints:
    """The checkpoints in one directory; the newest two are kept, and one that was not finished is never seen.

    All processes of a run open the directory, save and restore together. A checkpoint can be restored on any devices.
    Its checksums of all arrays show damage: Orbax keeps none.
    """

    def __init__(self, directory: Path):
        """Open the directory, which need not exist before something is saved."""
        options = ocp.CheckpointManagerOptions(max_to_keep=2, create=False)
        self._directory, handler = directory.absolute(), ocp.PyTreeCheckpointHandler()
        self._saving: int | None = None  # The step that is being written in the background.
        self._manager = ocp.CheckpointManager(self._directory, options=options, item_handlers=handler)

    def latest_step(self) -> int | None:
        """The number of steps after which the newest checkpoint was saved, or None; waits for one that is begun."""
        self.close()
        return self._manager.latest_step()

    def begin(self, state: TrainState) -> None:
        """Copy the state and save it under its step, unless that step is there, while the caller goes on.

        The next call of `begin`, `save`, `latest_step` or `close` waits for it, and raises RunError if it could not be
        written.
        """
        step = int(state.step)
        if step == self.latest_step():
            return
        # The next step reuses the memory of the state.
        state, sharding = jax.device_put(state, replicated(), may_alias=False), replicated(jax.devices())
        state = multihost_utils.host_local_array_to_global_array(state, sharding.mesh, sharding.spec)
        with self._naming(step):
            self._directory.mkdir(parents=True, exist_ok=True)
            self._manager.save(step, args=ocp.args.PyTreeSave(state), custom_metadata={"crc32": _checksums(state)})
        self._saving = step

    def save(self, state: TrainState) -> None:
        """Save the state under its step, unless that step is there; raises RunError if it cannot be written."""
        self.begin(state)
        self.close()

    def close(self) -> None:
        """Wait for what `begin` began; raises RunError if it cannot be written."""
        step, self._saving = self._saving, None
        if step is not None:
            with self._naming(step):
                self._manager.wait_until_finished()

    @contextmanager
    def _naming(self, step: int) -> Iterator[None]:
        """Raise RunError where the checkpoint of a step cannot be written."""
        try:
            yield
        except (OSError, ValueError) as error:  # TensorStore's for a full disk is the latter.
            kept = self._manager.latest_step()
            last = "there is none before" if kept is None else f"the last one, of step {kept}, is kept"
            raise RunError(
                f"cannot save the checkpoint of step {step} in {self._directory} ({one_line(error)}): {last}; make "
                "room and give the same command to go on"
            ) from error

    def restore(self, target: TrainState) -> TrainState:
        """The newest checkpoint that is whole, on every device of this process; damaged ones are moved aside.

        Raises InputError if there is none, or if its shapes are not those of `target`: it is of another architecture.
        """
        sharding = replicated(jax.devices())
        restored, damaged = self._restore_newest(_abstract(vars(target), sharding))
        state = TrainState(**restored)
        if damaged:
            multihost_utils.sync_global_devices("all processes have seen the damaged checkpoints")
            if jax.process_index() == 0:
                for step in damaged:
                    (self._directory / str(step)).rename(self._directory / f"{step}.damaged")
            multihost_utils.sync_global_devices("the damaged checkpoints are moved aside")
            self._manager.reload()
        return multihost_utils.global_array_to_host_local_array(state, sharding.mesh, sharding.spec)

    def restore_variables(self, model: nn.Module) -> dict[str, Any]:
        """The network's variables in the newest checkpoint, on the default device; raises as `restore`."""
        # The image size does not matter for the shapes, as long as every kernel fits.
        shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 256, 256, 6)))
        saved = {name: shapes[name] for name in ("params", "batch_stats") if name in shapes}
        return self._restore_newest(_abstract(saved, SingleDeviceSharding(jax.local_devices()[0])))[0]

    def _restore_newest(self, abstract: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        """What `abstract`, entries of a state, asks for of the newest whole checkpoint; and the damaged ones."""
        damaged = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored = self._restore(step, abstract)
            except InputError:
                raise
            except Exception as error:  # Whatever damaged files make of Orbax and TensorStore.
                damaged[step] = one_line(error)[:200]
                continue
            if jax.process_index() == 0:
                for other, reason in damaged.items():
                    line = f"the checkpoint of step {other} in {self._directory} is damaged ({reason})"
                    print(f"{line}: using that of step {step}", file=sys.stderr)
            return restored, list(damaged)
        if damaged:
            step, reason = next(iter(damaged.items()))
            raise InputError(
                f"no checkpoint in {self._directory} can be read: that of step {step} is damaged ({reason}); put back "
                "a copy, or use another --workdir to begin anew"
            )
        raise InputError(f"there is no checkpoint in {self._directory}: train first")

    def _restore(self, step: int, abstract: dict[str, Any]) -> dict[str, Any]:
        """What `abstract` asks for of one checkpoint; whatever is raised but InputError says that it is damaged."""
        saved, wanted = (
            {name: tuple(leaf.shape) for name, leaf in _named_leaves(params).items()}
            for params in (self._manager.item_metadata(step)["params"], abstract["params"])
        )
        for name in sorted(saved.keys() | wanted.keys()):
            if saved.get(name) != wanted.get(name):
                raise InputError(
                    f"the checkpoint {self._directory / str(step)} is of another architecture: its {name} has shape "
                    f"{saved.get(name)}, but this network's has {wanted.get(name)}"
                )
        placements = ocp.checkpoint_utils.construct_restore_args(abstract)
        arguments = ocp.args.PyTreeRestore(abstract, restore_args=placements, partial_restore=True)
        restored = self._manager.restore(step, args=arguments)
        # Checkpoints of earlier versions have none.
        checksums = (self._manager.metadata(step).custom_metadata or {}).get("crc32") or {}
        for name, checksum in _checksums(restored).items():
            if checksums and checksums[name] != checksum:
                raise RuntimeError(f"the checksum of {name} is wrong")
        return restored


def _abstract(tree: Any, sharding: Sharding) -> Any:
    """The shapes and dtypes of all arrays, to be placed so."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def _named_leaves(tree: object) -> dict[str, Any]:
    named = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in named}


def _checksums(tree: object) -> dict[str, int]:
    """CRC-32 of the bytes of every array, by its name."""
    arrays = {name: leaf.addressable_data(0) for name, leaf in _named_leaves(tree).items()}
    return {name: zlib.crc32(np.ascontiguousarray(array)) for name, array in arrays.items()}
