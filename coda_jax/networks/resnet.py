"""Residual networks for small images (He, Zhang, Ren, Sun, 2015, arXiv 1512.03385, section 4.2)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from coda_jax.checks import check_encoded, check_whole
from coda_jax.errors import InputError
from coda_jax.networks.coda_net import check_dtype
from coda_jax.networks.convolution import NormalisedConvolution


class ResNet(nn.Module):
    """The residual network for CIFAR-10, with shortcuts that have no parameters (option A).

    A convolution with 16 channels; three stages of n blocks with 16, 32 and 64 channels, of which the second and the
    third halve the resolution; the mean over all positions; and a linear layer. Takes images of any size.

    Attributes:
        depth: layers with parameters, 6n + 2: 20, 32, 44, 56 or 110 in the paper.
        num_classes: K.
        dtype: of the computation, or its name, one of `coda_net.DTYPES`; the last mean and linear layer are computed in
            float32 at least, and the parameters are float32.
        activation: the element-wise function after normalisation, in the place of which some attribution methods put
            their own.

    Raises:
        InputError: another depth, fewer than one class, or another dtype.

    Examples:
        >>> model = ResNet(depth=20, num_classes=10)
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 6)))
        >>> sorted(variables)
        ['batch_stats', 'params']
        >>> sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        270154
    """

    depth: int
    num_classes: int
    dtype: jnp.dtype = jnp.float32
    activation: Callable[[jax.Array], jax.Array] = nn.relu

    def __post_init__(self) -> None:
        """Check the attributes."""
        _number_of_blocks(self.depth)
        check_whole("num_classes", self.num_classes)
        check_dtype("dtype", self.dtype)
        super().__post_init__()

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers in the parameters, from the input to the output."""
        return ("stem", *(f"blocks_{index}" for index in range(_number_of_blocks(self.depth))), "head")

    @property
    def title(self) -> str:
        """The name of the network, as people write it."""
        return f"ResNet-{self.depth}"

    @property
    def gradcam_layer(self) -> str:
        """The last layer whose output has positions, which Grad-CAM explains."""
        return self.layer_names[-2]

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Inputs [N, H, W, 6] -> logits [N, K], float32 at least.

        With `train`, batch normalisation takes the statistics of the batch, and "batch_stats" must be mutable.

        Raises:
            InputError: inputs that are not floating-point [N, H, W, 6].
        """
        blocks = _number_of_blocks(self.depth)
        x = _features(check_encoded("inputs", inputs), train, self.depth, blocks, self.dtype, self.activation)
        features = jnp.mean(x, axis=(1, 2), dtype=jnp.promote_types(x.dtype, jnp.float32))
        return nn.Dense(self.num_classes, name="head")(features)


class ResNetTrunk(nn.Module):
    """The first layers of a `ResNet`, under the same names: features for a `coda_jax.HybridNet`.

    Attributes:
        depth: of the ResNet.
        blocks: how many of its blocks there are after the first convolution, from 0 to all (depth - 2) / 2.
        dtype: of the computation, as of the ResNet.
        activation: as of the ResNet.

    Raises:
        InputError: another depth, more blocks than the ResNet has, or another dtype.

    Examples:
        >>> trunk = ResNetTrunk(depth=20, blocks=6)  # Two of its three stages.
        >>> inputs = jnp.zeros((1, 32, 32, 6))
        >>> features, _ = jax.eval_shape(trunk.init_with_output, jax.random.key(0), inputs)
        >>> features.shape
        (1, 16, 16, 32)
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
        """What it is, as people write it."""
        return f"{self.blocks} of {_number_of_blocks(self.depth)} blocks of ResNet-{self.depth}"

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Inputs [N, H, W, 6] -> features [N, Hf, Wf, Cf]; `train` and errors as of the ResNet."""
        return _features(check_encoded("inputs", inputs), train, self.depth, self.blocks, self.dtype, self.activation)


def _number_of_blocks(depth: int) -> int:
    """3n for a depth of 6n + 2; raises InputError for another."""
    check_whole("depth", depth)
    if depth < 8 or depth % 6 != 2:
        raise InputError(f"depth must be 6n + 2, such as 20 or 56, not {depth}")
    return (depth - 2) // 2


def _features(
    x: jax.Array, train: bool, depth: int, blocks: int, dtype: jnp.dtype, activation: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """The first convolution and so many blocks of a ResNet, as layers of the module that calls this."""
    x = NormalisedConvolution(16, dtype=dtype, activation=activation, name="stem")(x, train)
    for index in range(blocks):
        stage, place = divmod(index, _number_of_blocks(depth) // 3)
        stride = 2 if stage and not place else 1
        x = Block(16 * 2**stage, stride, dtype, activation, name=f"blocks_{index}")(x, train)
    return x


class Block(nn.Module):
    """Two convolutions, to whose output the block's input is added.

    Attributes:
        channels: of the output, as many as the input has or more; zeros are added for what the input has fewer.
        stride: of the first convolution; the input that is added is subsampled by the same stride.
        dtype: of the computation.
        activation: of the network.
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
