"""VGG networks for small images (Simonyan, Zisserman, 2014, arXiv 1409.1556)."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from coda_jax.errors import InputError
from coda_jax.errors.checks import check_whole
from coda_jax.networks.convolution import ConventionalNet, NormalisedConvolution

VGG_11 = ((64,), (128,), (256, 256), (512, 512), (512, 512))
"""The paper's configuration A, without its two hidden fully connected layers: 9,230,090 parameters for ten classes."""


class VGG(ConventionalNet):
    """Stages of 3×3 convolutions, each of which ends with max pooling.

    As is usual on CIFAR-10, there is batch normalisation, and a single linear layer follows the convolutions. It takes
    the mean over all positions, so that images can be larger than 32×32 pixels, which five stages reduce to one.

    `stages` has the channels of each stage's convolutions, such as `VGG_11`. `max_pool` pools, with the arguments of
    `nn.max_pool`; DeepLIFT puts its own function in its place. For the other attributes see `ConventionalNet`.
    """

    stages: Sequence[Sequence[int]]
    num_classes: int
    dtype: jnp.dtype = jnp.float32
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    max_pool: Callable[..., jax.Array] = nn.max_pool

    def __post_init__(self) -> None:
        """Check the attributes, and make lists into tuples so that the module can be hashed."""
        lists = isinstance(self.stages, Sequence) and all(isinstance(stage, Sequence) for stage in self.stages)
        if not lists or not self.stages or not all(self.stages):
            raise InputError(f"stages must be lists of channels, such as ((64,), (128, 128)), not {self.stages!r}")
        for stage in self.stages:
            for channels in stage:
                check_whole("channels", channels)
        object.__setattr__(self, "stages", tuple(map(tuple, self.stages)))
        super().__post_init__()

    @property
    def title(self) -> str:
        """Such as VGG-11, the number of the paper's layers, of which two fully connected ones are gone."""
        return f"VGG-{sum(map(len, self.stages)) + 3}"

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The names of the convolutions and the linear layer."""
        return (*(f"layers_{index}" for index in range(sum(map(len, self.stages)))), "head")

    def features(self, x: jax.Array, train: bool) -> jax.Array:
        """[N, H, W, 6] -> [N, ⌊H / 2ⁿ⌋, ⌊W / 2ⁿ⌋, C] after n stages; raises InputError where images are smaller."""
        least = 2 ** len(self.stages)
        if min(x.shape[1:3]) < least:
            raise InputError(f"images must have at least {least}×{least} pixels, not {x.shape[1]}×{x.shape[2]}")
        names = iter(self.layer_names)
        for stage in self.stages:
            for channels in stage:
                layer = NormalisedConvolution(channels, 1, self.activation, self.dtype, name=next(names))
                x = layer(x, train)
            x = self.max_pool(x, (2, 2), (2, 2))
        return x
