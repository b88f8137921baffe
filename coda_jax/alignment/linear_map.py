"""The input-dependent linear map of a whole network: the composition of its layers' maps.

Each of the classes has `apply`, `W x` with the weights held fixed; `transpose`, `Wᵀ ȳ` for T cotangents an example;
and `dense`, the whole matrix, for tests and for looking at small networks.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from coda_jax.alignment.dau import accumulation_dtype, dense_matrix


@struct.dataclass
class SumPool:
    """The map of a network's head: the sum over positions of [N, H, W, K], divided by the temperature.

    `input_shape` is (H, W, K). A larger temperature forces the units to align better.
    """

    input_shape: tuple[int, int, int] = struct.field(pytree_node=False)
    temperature: float = struct.field(pytree_node=False)

    def apply(self, inputs: jax.Array) -> jax.Array:
        """[N, H, W, K] -> [N, K], float32 at least, without the logit bias."""
        return jnp.sum(inputs.astype(accumulation_dtype(inputs.dtype)), axis=(1, 2)) / self.temperature

    def transpose(self, cotangents: jax.Array) -> jax.Array:
        """[N, T, K] -> [N, T, H, W, K]."""
        spread = (cotangents / self.temperature)[:, :, None, None]
        return jnp.broadcast_to(spread, (*cotangents.shape[:2], *self.input_shape))

    def dense(self) -> jax.Array:
        """The matrix, the same for every example: [1, K, H, W, K]."""
        return dense_matrix(self.apply, (1, *self.input_shape))


@struct.dataclass
class LinearMap:
    """The composition of consecutive layers' maps, first layer first; a whole network's ends with its head's `SumPool`.

    `inputs` has the input [N, H, W, C] of each layer in the forward pass that made the maps. `linear_map[l:]` is the
    map from the input of layer `l` (counted from 0) to the logits without bias.
    """

    layers: tuple[Any, ...]
    inputs: tuple[jax.Array, ...]

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, layers: slice) -> "LinearMap":
        return LinearMap(self.layers[layers], self.inputs[layers])

    def apply(self, inputs: jax.Array) -> jax.Array:
        """[N, H, W, C] -> [N, K] for a map that ends with the head."""
        for layer in self.layers:
            inputs = layer.apply(inputs)
        return inputs

    def transpose(self, cotangents: jax.Array) -> jax.Array:
        """[N, T, K] -> [N, T, H, W, C]; of a cotangent that is 1 at one class and 0 elsewhere, that row of `W(x)`."""
        for layer in reversed(self.layers):
            cotangents = layer.transpose(cotangents)
        return cotangents

    def rows(self, targets: jax.Array) -> jax.Array:
        """The rows of `W(x)` of T classes an example: int [N, T] -> [N, T, H, W, C]; the map ends with the head."""
        classes = self.layers[-1].input_shape[-1]
        return self.transpose(jax.nn.one_hot(targets, classes, dtype=accumulation_dtype(self.inputs[-1].dtype)))

    def contributions(self, targets: jax.Array) -> jax.Array:
        """What each value of the first layer's input adds to the logits of T classes: int [N, T] -> [N, T, H, W, C]."""
        return self.rows(targets) * self.inputs[0][:, None]

    def dense(self) -> jax.Array:
        """The whole matrix, with the head [N, K, H, W, C]."""
        return dense_matrix(self.apply, self.inputs[0].shape)


def in_sequence(
    layers: Sequence[Callable[[jax.Array], tuple[jax.Array, Any]]], inputs: jax.Array
) -> tuple[jax.Array, LinearMap]:
    """The output of layers, one after the other, each of which returns its output and its map; and their maps."""
    maps, layer_inputs = [], []
    for layer in layers:
        layer_inputs.append(inputs)
        inputs, linear = layer(inputs)
        maps.append(linear)
    return inputs, LinearMap(tuple(maps), tuple(layer_inputs))
