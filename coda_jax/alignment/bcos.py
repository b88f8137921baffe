"""B-cos layers, and the linear maps that they, average pooling and residual blocks apply.

For one position with the zero-padded patch `p` a B-cos layer of `K` units with weights `w_j` computes (Böhle, Fritz,
Schiele, CVPR 2022, arXiv 2205.10268; Böhle, Singh, Fritz, Schiele, TPAMI 2024, arXiv 2306.10898)

    y_j = |cos_j|^(B-1) ŵ_jᵀp        with ŵ = w/‖w‖ and cos_j = ŵ_jᵀp / √(‖p‖² + 10⁻⁶)

With maxout each unit has M weights, of which the one with the largest `ŵᵀp` counts. With the cosines held fixed the
layer is a linear map, whose methods `coda_jax.alignment.linear_map` describes. Kernel sizes k, strides and paddings
with zeros are in pixels.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax import lax

from coda_jax.alignment.dau import accumulation_dtype, dense_matrix
from coda_jax.alignment.linear_map import LinearMap
from coda_jax.alignment.patches import output_size

_AXES = ("NHWC", "HWIO", "NHWC")


@struct.dataclass
class ScaledConvolution:
    """The map of a convolution, each of whose outputs is scaled.

    Of its `kernel` [k, k, C, K·M], the M outputs of a unit lie side by side; they are multiplied by their `scale`
    [N, Ho, Wo, K, M] and added. `input_size` is (H, W) of the layer's input.
    """

    kernel: jax.Array
    scale: jax.Array
    input_size: tuple[int, int] = struct.field(pytree_node=False)
    stride: int = struct.field(pytree_node=False)
    padding: int = struct.field(pytree_node=False)

    def apply(self, inputs: jax.Array) -> jax.Array:
        """`W x` with the weights held fixed: [N, H, W, C] -> [N, Ho, Wo, K]."""
        responses = _convolve(inputs, self.kernel.astype(inputs.dtype), self.stride, self.padding)
        return jnp.sum(responses.reshape(self.scale.shape) * self.scale, axis=-1)

    def transpose(self, cotangents: jax.Array) -> jax.Array:
        """`Wᵀ ȳ` for T cotangents an example: [N, T, Ho, Wo, K] -> [N, T, H, W, C]."""
        positions, (size, _, channels, outputs) = self.scale.shape[1:3], self.kernel.shape
        scaled = (cotangents[..., None] * self.scale[:, None]).reshape(-1, *positions, outputs)
        kernel, stride = self.kernel.astype(scaled.dtype), self.stride
        if size == 1 and not self.padding:  # A product of matrices, between whose rows there are zeros for the stride.
            at_positions = scaled @ kernel[0, 0].T
            last = [pixels - stride * (count - 1) - 1 for pixels, count in zip(self.input_size, positions, strict=True)]
            between = [(0, 0, 0), *((0, zeros, stride - 1) for zeros in last), (0, 0, 0)]
            pixels = lax.pad(at_positions, jnp.zeros((), scaled.dtype), between)
            return pixels.reshape(*cotangents.shape[:2], *self.input_size, channels)
        # Pixel q·s + i (in the padded input, s the stride) gets what position q - t times tap t·s + i makes of it: for
        # each i a convolution over positions, and one for all, whose outputs are pixels of s×s squares.
        taps, skipped = -(-size // stride), self.padding // stride
        kernel = jnp.pad(kernel, [(0, taps * stride - size)] * 2 + [(0, 0)] * 2)
        kernel = kernel.reshape(taps, stride, taps, stride, channels, outputs)[::-1, :, ::-1]
        kernel = kernel.transpose(0, 2, 5, 1, 3, 4).reshape(taps, taps, outputs, stride**2 * channels)
        squares = [(pixels - 1 + self.padding) // stride + 1 - skipped for pixels in self.input_size]
        paddings = [
            (taps - 1 - skipped, skipped + count - before) for count, before in zip(squares, positions, strict=True)
        ]
        pixels = lax.conv_general_dilated(scaled, kernel, (1, 1), paddings, dimension_numbers=_AXES)
        pixels = pixels.reshape(-1, *squares, stride, stride, channels).swapaxes(2, 3)
        pixels = pixels.reshape(*cotangents.shape[:2], squares[0] * stride, squares[1] * stride, channels)
        first = self.padding - skipped * stride
        return pixels[:, :, first : first + self.input_size[0], first : first + self.input_size[1]]

    def dense(self) -> jax.Array:
        """[N, Ho, Wo, K, H, W, C], mostly zeros."""
        return dense_matrix(self.apply, (len(self.scale), *self.input_size, self.kernel.shape[2]))


@struct.dataclass
class Residual:
    """The map of a residual block: the sum of the maps of its layers and of its shortcut, None for the identity."""

    layers: LinearMap
    shortcut: Any

    def apply(self, inputs: jax.Array) -> jax.Array:
        """[N, H, W, C] -> [N, Ho, Wo, K]."""
        return self.layers.apply(inputs) + (inputs if self.shortcut is None else self.shortcut.apply(inputs))

    def transpose(self, cotangents: jax.Array) -> jax.Array:
        """[N, T, Ho, Wo, K] -> [N, T, H, W, C]."""
        through = cotangents if self.shortcut is None else self.shortcut.transpose(cotangents)
        return self.layers.transpose(cotangents) + through

    def dense(self) -> jax.Array:
        """[N, Ho, Wo, K, H, W, C]."""
        return dense_matrix(self.apply, self.layers.inputs[0].shape)


class BcosConv(nn.Module):
    """A convolutional layer of B-cos units, which can be followed by batch normalisation without mean and bias.

    There are K = `features` units with M = `maxout` weights each. A larger B = `b` forces them to align better. The
    computation is in `dtype`, with norms summed in float32 at least; the parameters, `kernel` as in `ScaledConvolution`
    and `norm` [K], are float32.

    With `batch_norm`, each channel is divided by its standard deviation (about its mean; 10⁻⁵ is added to the variance)
    and multiplied by `norm`. Nothing is subtracted or added, so that this is part of the layer's linear map. With
    `train`, the (biased) variance is that of the batch, of which the running average in "batch_stats" takes over a
    tenth; without, it is the running average.
    """

    features: int
    kernel_size: int
    stride: int = 1
    padding: int = 0
    b: float = 2.0
    maxout: int = 1
    batch_norm: bool = False
    train: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array) -> tuple[jax.Array, ScaledConvolution]:
        """Inputs [N, H, W, C] -> (outputs [N, Ho, Wo, K] of `dtype`, the map that was applied).

        A kernel that fits nowhere raises InputError.
        """
        size, inputs, dtype = self.kernel_size, jnp.asarray(inputs, self.dtype), accumulation_dtype(self.dtype)
        positions = [output_size(pixels, size, self.stride, self.padding) for pixels in inputs.shape[1:3]]
        shape = (size, size, inputs.shape[-1], self.features * self.maxout)
        w = self.param("kernel", nn.initializers.variance_scaling(2.0, "fan_out", "normal"), shape, jnp.float32)
        kernel, w = w.astype(inputs.dtype), w.astype(dtype)
        # Dividing the few outputs by the weights' norms is cheaper than dividing the many weights.
        lengths = jnp.sqrt(jnp.sum(w**2, axis=(0, 1, 2))).reshape(self.features, self.maxout)
        responses = _convolve(inputs, kernel, self.stride, self.padding).astype(dtype)
        responses = responses.reshape(-1, *positions, self.features, self.maxout) / lengths
        squares = jnp.sum(inputs.astype(dtype) ** 2, axis=-1, keepdims=True)
        squared_norms = average_pool(squares, size, self.stride, self.padding)[0] * size**2
        cosines = jnp.abs(responses) / jnp.sqrt(squared_norms + 1e-6)[..., None]
        # Powers below 1 would have an infinite slope at 0.
        scale = cosines if self.b == 2 else (cosines + 1e-6) ** (self.b - 1)
        if self.maxout > 1:
            scale *= jax.nn.one_hot(jnp.argmax(responses, axis=-1), self.maxout, dtype=dtype)
        outputs = jnp.sum(responses * scale, axis=-1)
        if self.batch_norm:
            factors = self._norm_factors(outputs).astype(dtype)
            outputs, scale = outputs * factors, scale * factors[:, None]
        linear = ScaledConvolution(kernel, scale / lengths, inputs.shape[1:3], self.stride, self.padding)
        return outputs.astype(inputs.dtype), linear

    def _norm_factors(self, outputs: jax.Array) -> jax.Array:
        """What each channel is multiplied by: [K]."""
        norm = self.param("norm", nn.initializers.ones, (self.features,), jnp.float32)
        running = self.variable("batch_stats", "variance", jnp.ones, (self.features,), jnp.float32)
        variance = running.value
        if self.train:
            variance = jnp.var(outputs, axis=(0, 1, 2))
            if not self.is_initializing():
                running.value = 0.9 * running.value + 0.1 * variance
        return norm * lax.rsqrt(variance + 1e-5)


def average_pool(inputs: jax.Array, size: int, stride: int, padding: int) -> tuple[jax.Array, ScaledConvolution]:
    """The means [N, Ho, Wo, C] of patches of [N, H, W, C] with k = `size`, zeros of the padding included; their map."""
    outputs = nn.avg_pool(inputs, (size,) * 2, (stride,) * 2, [(padding,) * 2] * 2)
    channels = inputs.shape[-1]
    kernel = jnp.broadcast_to(jnp.eye(channels, dtype=inputs.dtype) / size**2, (size, size, channels, channels))
    scale = jnp.ones((*outputs.shape, 1), inputs.dtype)
    return outputs, ScaledConvolution(kernel, scale, inputs.shape[1:3], stride, padding)


def _convolve(inputs: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    if kernel.shape[:2] == (1, 1) and not padding:
        return inputs[:, ::stride, ::stride] @ kernel[0, 0]
    return lax.conv_general_dilated(inputs, kernel, (stride,) * 2, [(padding,) * 2] * 2, dimension_numbers=_AXES)
