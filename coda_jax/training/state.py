"""What a training step changes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from coda_jax.models import CoDANet

AXIS = "devices"
"""The name of the axis over which a step is mapped."""


@struct.dataclass
class TrainState:
    """The state of a run; with the run's seed it determines everything that follows.

    Attributes:
        step: int32 [], steps done. Shuffling, flips and crops are functions of the seed and the step, which is
            therefore the position in the data and the random state as well.
        params: the network's parameters.
        opt_state: the optimiser's.
    """

    step: jax.Array
    params: Any
    opt_state: optax.OptState


def create(
    model: CoDANet, optimizer: optax.GradientTransformation, image_size: tuple[int, int], seed: int
) -> TrainState:
    """The state before the first step, on every device of this process.

    Args:
        model: the network, for encoded images of `image_size` (H, W).
        optimizer: made by optax.
        image_size: (H, W), in pixels.
        seed: of the initial parameters.
    """

    # The seed is no part of the compiled program, which is kept for other runs.
    def init(key: jax.Array) -> TrainState:
        params = model.init(key, jnp.zeros((1, *image_size, 6)))["params"]
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    # Placed as the mapped step leaves it; from anywhere else the second step would be compiled again.
    return jax.jit(init, out_shardings=replicated())(jax.random.key(seed))


def replicated() -> NamedSharding:
    """The placement of what every device of this process holds whole, which is where mapped steps leave a state."""
    return NamedSharding(Mesh(np.array(jax.local_devices()), (AXIS,)), PartitionSpec())


def everywhere() -> NamedSharding:
    """The placement of what every device of all processes holds whole."""
    return NamedSharding(Mesh(np.array(jax.devices()), (AXIS,)), PartitionSpec())
