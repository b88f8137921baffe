"""Checkpoints of a run, by Orbax."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from coda_jax.errors import InputError
from coda_jax.models import CoDANet
from coda_jax.training.state import TrainState


class Checkpoints:
    """The checkpoints in one directory; the newest two are kept, and one that was not finished is never seen."""

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
        """Save the state under its step, unless that step is there already."""
        step = int(state.step)
        if step != self.latest_step():
            self._directory.mkdir(parents=True, exist_ok=True)
            self._manager.save(step, args=ocp.args.PyTreeSave(state))

    def restore(self, target: TrainState) -> TrainState:
        """The newest checkpoint, placed on the devices as `target` is.

        Raises:
            InputError: there is none, or it is damaged or of another architecture than the target.
        """
        abstract = jax.tree.map(ocp.tree.to_shape_dtype_struct, target)
        return self._restore(self._matching_step(target.params), abstract)

    def restore_params(self, model: CoDANet) -> dict[str, Any]:
        """The parameters in the newest checkpoint, on the default device.

        Raises:
            InputError: there is none, or it is damaged or of another architecture than the model.
        """
        # The image size does not matter for the shapes, as long as every kernel fits.
        shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 256, 256, 6)))["params"]
        step = self._matching_step(shapes)
        sharding = SingleDeviceSharding(jax.local_devices()[0])
        abstract = {
            "params": jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)
        }
        return self._restore(step, abstract)["params"]

    def _restore(self, step: int, abstract: Any) -> Any:
        """What `abstract`, a tree of shapes and shardings, names of a checkpoint."""
        placements = ocp.checkpoint_utils.construct_restore_args(abstract)
        arguments = ocp.args.PyTreeRestore(abstract, restore_args=placements, partial_restore=True)
        with self._readable(step):
            return self._manager.restore(step, args=arguments)

    @contextlib.contextmanager
    def _readable(self, step: int) -> Iterator[None]:
        """Make an InputError of whatever Orbax raises for a damaged checkpoint, which is of many types."""
        try:
            yield
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(
                f"the checkpoint {self._directory / str(step)} is damaged: delete it to go on from the one before, or "
                f"from the beginning ({reason})"
            ) from error

    def _matching_step(self, params: Any) -> int:
        """The newest checkpoint's step; raises InputError if its parameters' shapes are not those of `params`."""
        step = self.latest_step()
        if step is None:
            raise InputError(f"there is no checkpoint in {self._directory}: train first")
        with self._readable(step):
            saved = _shapes(self._manager.item_metadata(step)["params"])
        wanted = _shapes(params)
        for name in sorted(saved.keys() | wanted.keys()):
            if saved.get(name) != wanted.get(name):
                raise InputError(
                    f"the checkpoint {self._directory / str(step)} is of another architecture: its {name} has shape "
                    f"{saved.get(name)}, but this network's has {wanted.get(name)}"
                )
        return step


def _shapes(tree: object) -> dict[str, tuple[int, ...]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape) for path, leaf in leaves}
