"""The layers of a CoDA-Net as Flax linen modules; each returns its output and the linear map that it applied."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from coda_jax.alignment.dau import DynamicLinear, Gram, accumulation_dtype, dynamic_alignment
from coda_jax.alignment.linear_map import SumPool
from coda_jax.errors import InputError


def _uniform(fan_in: int) -> nn.initializers.Initializer:
    """Uniform in ±1/√fan_in, PyTorch's default for convolutions, which the published schedules were tuned on."""
    bound = fan_in**-0.5
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


class DAUConv(nn.Module):
    """A convolutional layer of dynamic alignment units (Böhle et al., CVPR 2021).

    Attributes:
        features: K, the number of units.
        rank: r, of the matrices `A_j B` that make the dynamic weights.
        kernel_size: k, in pixels.
        stride: in pixels.
        padding: in pixels, with zeros.
        norm: "sq" or "l2".
        dtype: of the computation; dot products and norms are summed in float32 at least.
        param_dtype: of the parameters `B` [k, k, C, r], `A` [k, k, C, K, r] and `b` [k, k, C, K].
    """

    features: int
    rank: int
    kernel_size: int
    stride: int = 1
    padding: int = 0
    norm: str = "sq"
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array) -> tuple[jax.Array, DynamicLinear]:
        """Inputs [N, H, W, C] -> (outputs [N, Ho, Wo, K] of `dtype`, the map that was applied).

        Where the variables have the collection "gram" (see `CoDANet.with_gram`), it is used.

        Raises:
            InputError: inputs of another number of channels than the parameters were made for, an unknown norm, or
                a kernel that fits nowhere.
        """
        _check_channels(self, inputs)
        window = (self.kernel_size, self.kernel_size, inputs.shape[-1])
        fan_in = self.kernel_size**2 * inputs.shape[-1]
        parameters = (
            self.param("B", _uniform(fan_in), (*window, self.rank), self.param_dtype),
            self.param("A", _uniform(self.rank), (*window, self.features, self.rank), self.param_dtype),
            self.param("b", _uniform(self.rank), (*window, self.features), self.param_dtype),
        )
        return dynamic_alignment(
            inputs.astype(self.dtype),
            *(parameter.astype(self.dtype) for parameter in parameters),
            norm=self.norm,
            stride=self.stride,
            padding=self.padding,
            products=Gram(**self.variables["gram"]) if "gram" in self.variables else None,
        )


def _check_channels(layer: nn.Module, inputs: jax.Array) -> None:
    """Raise InputError unless the inputs have as many channels as the parameters were made for."""
    if layer.has_variable("params", "B"):
        expected: int = layer.get_variable("params", "B").shape[2]
        if expected != inputs.shape[-1]:
            raise InputError(
                f"{layer.name} takes {expected} channels, but its input has {inputs.shape[-1]}"
                + (": encode images with coda_jax.add_inverse" if (expected, inputs.shape[-1]) == (6, 3) else "")
            )


class Head(nn.Module):
    """From the last layer's units to logits: global sum, division by the temperature, bias.

    Attributes:
        temperature: T; a larger one forces the units to align better.
        logit_bias: b₀, added to every logit.
    """

    temperature: float
    logit_bias: float

    def __call__(self, inputs: jax.Array) -> tuple[jax.Array, SumPool]:
        """Inputs [N, H, W, K] -> (logits [N, K], the map to `logits - logit_bias`); float32 at least."""
        pool = SumPool(inputs.shape[1:], self.temperature)
        return pool.apply(inputs.astype(accumulation_dtype(inputs.dtype))) + self.logit_bias, pool
