"""The layer of a CoDA-Net as a Flax linen module, which returns its output and the linear map that it applied."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from coda_jax.alignment.dau import DynamicLinear, Gram, dynamic_alignment
from coda_jax.errors import InputError


def _uniform(fan_in: int) -> nn.initializers.Initializer:
    """Uniform in ±1/√fan_in, PyTorch's default for convolutions, which the published schedules were tuned on."""
    bound = fan_in**-0.5
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


class DAUConv(nn.Module):
    """A convolutional layer of dynamic alignment units (Böhle et al., CVPR 2021).

    It has K = `features` units; r is the rank of the matrices `A_j B` that make the dynamic weights. The norm is "sq"
    or "l2"; kernel size, stride and padding are in pixels. The computation is in `dtype`, with dot products and norms
    summed in float32 at least. The parameters `B` [k, k, C, r], `A` [k, k, C, K, r] and `b` [k, k, C, K] are in
    `param_dtype`.
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

        Where the variables have the collection "gram" (see `CoDANet.with_gram`), it is used. InputError is raised for
        inputs of other channels than the parameters were made for, an unknown norm, or a kernel that fits nowhere.
        """
        channels = inputs.shape[-1]
        if self.has_variable("params", "B"):
            expected: int = self.get_variable("params", "B").shape[2]
            if expected != channels:
                hint = ": encode images with coda_jax.add_inverse" if (expected, channels) == (6, 3) else ""
                raise InputError(f"{self.name} takes {expected} channels, but its input has {channels}{hint}")
        window = (self.kernel_size, self.kernel_size, channels)
        shapes = {"B": (*window, self.rank), "A": (*window, self.features, self.rank), "b": (*window, self.features)}
        fans_in = {"B": self.kernel_size**2 * channels, "A": self.rank, "b": self.rank}
        parameters = [
            self.param(name, _uniform(fans_in[name]), shape, self.param_dtype) for name, shape in shapes.items()
        ]
        return dynamic_alignment(
            inputs.astype(self.dtype),
            *(parameter.astype(self.dtype) for parameter in parameters),
            norm=self.norm,
            stride=self.stride,
            padding=self.padding,
            products=Gram(**self.variables["gram"]) if "gram" in self.variables else None,
        )
