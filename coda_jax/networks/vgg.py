"""VGG networks for small images (Simonyan, Zisserman, 2014, arXiv 1409.1556)."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from coda_jax.checks import check_encoded, check_whole
from coda_jax.errors import InputError
from coda_jax.networks.coda_net import check_dtype
from coda_jax.networks.convolution import NormalisedConvolution

VGG_11 = ((64,), (128,), (256, 256), (512, 512), (512, 512))
"""The paper's configuration A, without its two hidden fully connected layers: 9,230,090 parameters for ten classes."""


class VGG(nn.Module):
    """Stages of 3×3 convolutions, each of which ends with max pooling.

    As is usual on CIFAR-10, there is batch normalisation, and a single linear layer follows the convolutions. It takes
    the mean over all positions, of which an image of 32×32 pixels has one left after five stages, so that images can be
    larger.

    Attributes:
        stages: for each stage the channels of its convolutions, such as `VGG_11`.
        num_classes: K.
        dtype: of the computation, or its name, one of `coda_net.DTYPES`; the last mean and linear layer are computed in
            float32 at least, and the parameters are float32.
        activation: the element-wise function after normalisation, in the place of which some attribution methods put
            their own.
        max_pool: as `nn.max_pool`, in the place of which DeepLIFT puts its own.

    Raises:
        InputError: stages that are no lists of whole numbers, fewer than one class, or another dtype.
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
        check_whole("num_classes", self.num_classes)
        check_dtype("dtype", self.dtype)
        super().__post_init__()

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers in the parameters, from the input to the output."""
        return (*(f"layers_{index}" for index in range(sum(map(len, self.stages)))), "head")

    @property
    def title(self) -> str:
        """The name of the network, with the number of the paper's layers, of which two fully connected are gone."""
        return f"VGG-{sum(map(len, self.stages)) + 3}"

    @property
    def gradcam_layer(self) -> str:
        """The last layer whose output has positions, before they are pooled, which Grad-CAM explains."""
        return self.layer_names[-2]

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Inputs [N, H, W, 6] -> logits [N, K], float32 at least.

        With `train`, batch normalisation takes the statistics of the batch, and "batch_stats" must be mutable.

        Raises:
            InputError: inputs that are not floating-point [N, H, W, 6], or too small for so many stages.
        """
        x = check_encoded("inputs", inputs)
        least = 2 ** len(self.stages)
        if min(x.shape[1:3]) < least:
            raise InputError(f"images must have at least {least}×{least} pixels, not {x.shape[1]}×{x.shape[2]}")
        *layers, head = self.layer_names
        names = iter(layers)
        for stage in self.stages:
            for channels in stage:
                x = NormalisedConvolution(channels, dtype=self.dtype, activation=self.activation, name=next(names))(
                    x, train
                )
            x = self.max_pool(x, (2, 2), (2, 2))
        features = jnp.mean(x, axis=(1, 2), dtype=jnp.promote_types(x.dtype, jnp.float32))
        return nn.Dense(self.num_classes, name=head)(features)
