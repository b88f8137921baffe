"""The layer that conventional networks are made of."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn


class NormalisedConvolution(nn.Module):
    """A 3×3 convolution without bias, batch normalisation (Ioffe, Szegedy, 2015, arXiv 1502.03167), and a ReLU
    or another activation.

    Attributes:
        channels: K, of the output.
        stride: in pixels.
        activation: the function at the end; None for none.
        dtype: of the computation; the parameters are float32.
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
