"""Residual networks for small images (He, Zhang, Ren, Sun, 2015, arXiv 1512.03385, section 4.2)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from coda_jax.errors import InputError
from coda_jax.errors.checks import check_images, check_whole
from coda_jax.networks.coda_net import check_dtype
from coda_jax.networks.convolution import ConventionalNet, NormalisedConvolution


class ResNet(ConventionalNet):
    """The residual network for CIFAR-10, with shortcuts that have no parameters (option A).

    A convolution with 16 channels; three stages of n blocks with 16, 32 and 64 channels, of which the second and the
    third halve the resolution; the mean over all positions; and a linear layer. It takes images of any size.

    The depth is the number of layers with parameters, 6n + 2: 20, 32, 44, 56 or 110 in the paper. For the other
    attributes see `ConventionalNet`.
    """

    depth: int
    num_classes: int
    dtype: jnp.dtype = jnp.float32
    activation: Callable[[jax.Array], jax.Array] = nn.relu

    def __post_init__(self) -> None:
        """Check the attributes."""
        _number_of_blocks(self.depth)
        super().__post_init__()

    @property
    def title(self) -> str:
        """Such as ResNet-20."""
        return f"ResNet-{self.depth}"

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The names of the first convolution, the blocks and the linear layer."""
        return ("stem", *(f"blocks_{index}" for index in range(_number_of_blocks(self.depth))), "head")

    def features(self, x: jax.Array, train: bool) -> jax.Array:
        """[N, H, W, 6] -> [N, ⌈H / 4⌉, ⌈W / 4⌉, 64]."""
        return _features(self, x, train, _number_of_blocks(self.depth))


class ResNetTrunk(nn.Module):
    """The first layers of a `ResNet`, under the same names: features for a `coda_jax.HybridNet`.

    `blocks` is how many of the ResNet's blocks there are after the first convolution, from 0 to all (depth - 2) / 2.
    The other attributes are the ResNet's.
    """

    depth: int
    blocks: int
    dtype: jnp.dtype = jnp.float32
    activation: Callable[[jax.Array], jax.Array] = nn.relu

    def __post_init__(self) -> None:
        """Check the attributes."""
        most = _number_of_blocks(self.depth)
        check_whole("blocks", self.blocks, 0)
        if self.blocks > most:
            raise InputError(f"blocks must be at most {most}, of which a ResNet of depth {self.depth} has no more")
        check_dtype("dtype", self.dtype)
        super().__post_init__()

    @property
    def title(self) -> str:
        """Such as 6 of 9 blocks of ResNet-20."""
        return f"{self.blocks} of {_number_of_blocks(self.depth)} blocks of ResNet-{self.depth}"

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Inputs [N, H, W, 6] -> features [N, Hf, Wf, Cf]; `train` and errors as for the ResNet."""
        return _features(self, check_images("inputs", inputs, encoded=True), train, self.blocks)


def _number_of_blocks(depth: int) -> int:
    """3n for a depth of 6n + 2; raises InputError for another."""
    check_whole("depth", depth)
    if depth < 8 or depth % 6 != 2:
        raise InputError(f"depth must be 6n + 2, such as 20 or 56, not {depth}")
    return (depth - 2) // 2


def _features(model: ResNet | ResNetTrunk, x: jax.Array, train: bool, blocks: int) -> jax.Array:
    """The output of the first convolution and so many blocks, which become layers of the model that calls this."""
    x = NormalisedConvolution(16, 1, model.activation, model.dtype, name="stem")(x, train)
    for index in range(blocks):
        stage, place = divmod(index, _number_of_blocks(model.depth) // 3)
        stride = 2 if stage and not place else 1
        x = Block(16 * 2**stage, stride, model.dtype, model.activation, name=f"blocks_{index}")(x, train)
    return x


class Block(nn.Module):
    """Two convolutions, to whose output the block's input is added, subsampled by the first convolution's stride.

    The output has as many channels as the input or more; the input gets zeros for those that it lacks.
    """

    channels: int
    stride: int
    dtype: jnp.dtype
    activation: Callable[[jax.Array], jax.Array] = nn.relu

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[N, H, W, C] -> [N, ⌈H / stride⌉, ⌈W / stride⌉, channels]."""
        residual = NormalisedConvolution(self.channels, self.stride, self.activation, self.dtype)(x, train)
        residual = NormalisedConvolution(self.channels, activation=None, dtype=self.dtype)(residual, train)
        more = self.channels - x.shape[-1]
        shortcut = jnp.pad(x[:, :: self.stride, :: self.stride], ((0, 0), (0, 0), (0, 0), (0, more)))
        return self.activation(residual + shortcut)
