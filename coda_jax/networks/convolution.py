"""What conventional networks are made of, and have in common."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from coda_jax.errors.checks import check_images, check_whole
from coda_jax.networks.coda_net import check_dtype


class NormalisedConvolution(nn.Module):
    """A 3×3 convolution without bias, batch normalisation (Ioffe, Szegedy, 2015, arXiv 1502.03167), and the activation,
    unless it is None.

    There are K = `channels` output channels, and the stride is in pixels. The computation is in `dtype`; the parameters
    are float32.
    """

    channels: int
    stride: int = 1
    activation: Callable[[jax.Array], jax.Array] | None = nn.relu
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[N, H, W, C] -> [N, ⌈H / stride⌉, ⌈W / stride⌉, K] of `dtype`.

        With `train`, channels are normalised by the mean and the (biased) variance of this batch, of which the running
        averages in "batch_stats" take over a tenth; without, by the running averages.
        """
        dtype = jnp.dtype(self.dtype)
        convolution = nn.Conv(
            self.channels, (3, 3), self.stride, 1, use_bias=False, dtype=dtype, kernel_init=nn.initializers.he_normal()
        )
        norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype)
        x = norm(convolution(x))
        return x if self.activation is None else self.activation(x)


class ConventionalNet(nn.Module):
    """A base for networks with `num_classes`, `dtype`, `activation` and `features`, of whose mean a linear layer makes
    the logits.

    The features are computed in `dtype`, which is one of `coda_net.DTYPES`, or its name; the mean and the linear layer
    in float32 at least. All parameters are float32. `activation` is the element-wise function after normalisation; some
    attribution methods put their own in its place. Attributes out of range raise InputError.
    """

    quantity = "Grad-CAM attributions"

    def __post_init__(self) -> None:
        """Check the attributes."""
        check_whole("num_classes", self.num_classes)
        check_dtype("dtype", self.dtype)
        super().__post_init__()

    @property
    def gradcam_layer(self) -> str:
        """The last layer before the linear one."""
        return self.layer_names[-2]

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Inputs [N, H, W, 6], floating -> logits [N, K], float32 at least; other inputs raise InputError.

        With `train`, batch normalisation takes the statistics of the batch, and "batch_stats" must be mutable.
        """
        x = self.features(check_images("inputs", inputs, encoded=True), train)
        x = jnp.mean(x, axis=(1, 2), dtype=jnp.promote_types(x.dtype, jnp.float32))
        return nn.Dense(self.num_classes, name="head")(x)
