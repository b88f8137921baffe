"""Checkpoints of a run, by Orbax."""

import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import linen as nn
from jax.experimental import multihost_utils
from jax.sharding import SingleDeviceSharding

from coda_jax.errors import InputError, RunError, one_line
from coda_jax.training.state import TrainState, as_variables, everywhere


class Checkpoints:
    """The checkpoints in one directory; the newest two are kept, and one that was not finished is never seen.

    Where there are several processes, all of them open the directory, save and restore together. A checkpoint holds
    nothing of the devices that it was made on, and restores on any others. Of every array it holds a checksum, so that
    one that was damaged since is noticed, and the one before is used.
    """

    def __init__(self, directory: Path):
        """Open the directory, which need not exist before something is saved."""
        # Saving in the background would read arrays whose memory the next step reuses.
        options = ocp.CheckpointManagerOptions(max_to_keep=2, create=False, enable_async_checkpointing=False)
        self._directory = directory.absolute()
        self._manager = ocp.CheckpointManager(
            self._directory, options=options, item_handlers=ocp.PyTreeCheckpointHandler()
        )

    def latest_step(self) -> int | None:
        """The number of steps after which the newest checkpoint was saved, or None if there is none."""
        return self._manager.latest_step()

    def save(self, state: TrainState) -> None:
        """Save the state under its step, unless that step is there already.

        Raises:
            RunError: it cannot be written; the checkpoints that are there stay.
        """
        step = int(state.step)
        if step == self.latest_step():
            return
        checksums = {"crc32": _checksums(state)}
        if jax.process_count() > 1:
            sharding = everywhere()
            state = multihost_utils.host_local_array_to_global_array(state, sharding.mesh, sharding.spec)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._manager.save(step, args=ocp.args.PyTreeSave(state), custom_metadata=checksums)
        except (OSError, ValueError) as error:  # TensorStore's for a full disk is the latter.
            kept = self.latest_step()
            last = "there is none before" if kept is None else f"the last one, of step {kept}, is kept"
            raise RunError(
                f"cannot save the checkpoint of step {step} in {self._directory} ({one_line(error)}): {last}; make "
                "room and give the same command to go on"
            ) from error

    def restore(self, target: TrainState) -> TrainState:
        """The newest checkpoint, placed on the devices as `target` is.

        Checkpoints that are damaged are moved aside, and the one before is used.

        Raises:
            InputError: there is none, none that is whole, or the newest is of another architecture than the target.
        """
        if jax.process_count() > 1:
            sharding = everywhere()
            abstract = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), target
            )
        else:
            abstract = jax.tree.map(ocp.tree.to_shape_dtype_struct, target)
        state, damaged = self._restore_newest(abstract, lambda tree: tree.params)
        if jax.process_count() > 1:
            state = multihost_utils.global_array_to_host_local_array(state, sharding.mesh, sharding.spec)
            multihost_utils.sync_global_devices("the damaged checkpoints were seen by all")
        if damaged and jax.process_index() == 0:
            for step in damaged:
                (self._directory / str(step)).rename(self._directory / f"{step}.damaged")
        if damaged:
            if jax.process_count() > 1:
                multihost_utils.sync_global_devices("the damaged checkpoints were moved aside")
            self._manager.reload()
        return state

    def restore_variables(self, model: nn.Module) -> dict[str, Any]:
        """The network's variables in the newest checkpoint, on the default device.

        Raises:
            InputError: there is none, none that is whole, or the newest is of another architecture than the model.
        """
        # The image size does not matter for the shapes, as long as every kernel fits.
        shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 256, 256, 6)))
        shapes = as_variables(shapes["params"], shapes.get("batch_stats"))
        sharding = SingleDeviceSharding(jax.local_devices()[0])
        abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)
        return self._restore_newest(abstract, lambda tree: tree["params"])[0]

    def _restore_newest(self, abstract: Any, params: Callable[[Any], Any]) -> tuple[Any, list[int]]:
        """What `abstract`, a tree of shapes and shardings, names of the newest whole checkpoint; and the damaged ones.

        `params` gives the parameters of such a tree.
        """
        damaged = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored = self._restore(step, abstract, params(abstract))
            except InputError:
                raise
            except Exception as error:  # Whatever damaged files make of Orbax and TensorStore.
                damaged[step] = one_line(error)[:200]
                continue
            for other, reason in damaged.items():
                if jax.process_index() == 0:
                    print(
                        f"the checkpoint of step {other} in {self._directory} is damaged ({reason}): using that of "
                        f"step {step}",
                        file=sys.stderr,
                    )
            return restored, list(damaged)
        if damaged:
            step, reason = next(iter(damaged.items()))
            raise InputError(
                f"no checkpoint in {self._directory} can be read: that of step {step} is damaged ({reason}); put back "
                "a copy, or use another --workdir to begin anew"
            )
        raise InputError(f"there is no checkpoint in {self._directory}: train first")

    def _restore(self, step: int, abstract: Any, params: Any) -> Any:
        """What `abstract` names of one checkpoint; whatever is raised but InputError says that it is damaged."""
        self._check_architecture(step, params)
        placements = ocp.checkpoint_utils.construct_restore_args(abstract)
        arguments = ocp.args.PyTreeRestore(abstract, restore_args=placements, partial_restore=True)
        restored = self._manager.restore(step, args=arguments)
        # Checkpoints of earlier versions have none.
        saved = (self._manager.metadata(step).custom_metadata or {}).get("crc32") or {}
        for name, checksum in _checksums(restored).items() if saved else ():
            if saved[name] != checksum:
                raise RuntimeError(f"the checksum of {name} is wrong")
        return restored

    def _check_architecture(self, step: int, params: Any) -> None:
        """Raise InputError if the shapes of a checkpoint's parameters are not those of `params`."""
        saved, wanted = _shapes(self._manager.item_metadata(step)["params"]), _shapes(params)
        for name in sorted(saved.keys() | wanted.keys()):
            if saved.get(name) != wanted.get(name):
                raise InputError(
                    f"the checkpoint {self._directory / str(step)} is of another architecture: its {name} has shape "
                    f"{saved.get(name)}, but this network's has {wanted.get(name)}"
                )


def _named_leaves(tree: object) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _shapes(tree: object) -> dict[str, tuple[int, ...]]:
    return {name: tuple(leaf.shape) for name, leaf in _named_leaves(tree).items()}


def _checksums(tree: object) -> Mapping[str, int]:
    """CRC-32 of the bytes of every array, by its name."""
    return {
        # Of an array that other processes hold as well, this one's copy.
        name: zlib.crc32(np.ascontiguousarray(leaf.addressable_data(0)))
        for name, leaf in _named_leaves(tree).items()
    }
