"""What a training step changes."""

import dataclasses
from collections.abc import Sequence
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import struct
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "devices"
"""The name of the axis over which a step is mapped."""


@struct.dataclass
class TrainState:
    """The state of a run; with the run's seed it determines everything that follows.

    `step`, int32 [], is the number of steps done. Shuffling, flips and crops are functions of it and the seed, so that
    it is the position in the data and the random state, too. `batch_stats` are the running averages of a network with
    batch normalisation, empty for others.
    """

    step: jax.Array
    params: Any
    opt_state: optax.OptState
    batch_stats: Any = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, Any]:
        """What the network is applied with."""
        # Those of a network without batch normalisation have no collection "batch_stats".
        return {"params": self.params, **({"batch_stats": self.batch_stats} if self.batch_stats else {})}


def create(
    model: nn.Module, optimizer: optax.GradientTransformation, image_size: tuple[int, int], seed: int
) -> TrainState:
    """The state before the first step, on every device of this process, for images of `image_size` (H, W) in pixels."""

    # The seed is no part of the compiled program, which is kept for other runs.
    def init(key: jax.Array) -> TrainState:
        variables = model.init(key, jnp.zeros((1, *image_size, 6)))
        params = variables["params"]
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), variables.get("batch_stats", {}))

    # Placed as the mapped step leaves it; from anywhere else the second step would be compiled again.
    return jax.jit(init, out_shardings=replicated())(jax.random.key(seed))


def beginning_with(state: TrainState, params: Any, classes: Sequence[int | None]) -> TrainState:
    """The state of a `CoDANet` with the parameters of another, which differs in its classes at most.

    Args:
        state: a new one.
        params: of the other network.
        classes: for each class of the state's network, the number of the class of the other one whose unit in the last
            layer it begins with. None is for a class that the other does not have: its unit's `A_j` and `b_j` stay.
    """
    here = [number for number, other in enumerate(classes) if other is not None]
    there = [other for other in classes if other is not None]
    last = f"layers_{len(params) - 1}"

    def copied(path: tuple[Any, ...], own: jax.Array, given: jax.Array) -> np.ndarray:
        layer, name = (key.key for key in path)
        if layer != last or name == "B":
            return np.array(given)  # A step uses the memory of its state again.
        units = {"A": -2, "b": -1}[name]
        array = np.moveaxis(np.array(own), units, 0)
        array[here] = np.moveaxis(np.asarray(given), units, 0)[there]
        return np.moveaxis(array, 0, units)

    copies = jax.tree_util.tree_map_with_path(copied, state.params, params)
    return dataclasses.replace(state, params=jax.device_put(copies, replicated()))


def replicated(devices: Sequence[jax.Device] = ()) -> NamedSharding:
    """The placement of what each of the devices holds whole: those of this process, as mapped steps leave a state."""
    return NamedSharding(Mesh(np.array(devices or jax.local_devices()), (AXIS,)), PartitionSpec())
