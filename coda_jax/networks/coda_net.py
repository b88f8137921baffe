"""Convolutional Dynamic Alignment Networks."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from coda_jax.alignment.dau import NORMS, gram
from coda_jax.alignment.layers import DAUConv
from coda_jax.alignment.linear_map import LinearMap, SumPool, in_sequence
from coda_jax.errors import InputError
from coda_jax.errors.checks import check_choice, check_images, check_number, check_whole

DTYPES = ("float32", "bfloat16", "float64")

LAYERS: dict[str, Any] = {"dau": DAUConv}
"""Types of layers by name: another one has the attributes of `DAUConv`, and a line here."""

LOGIT_BIAS = math.log(0.1 / 0.9)
"""b₀ of the paper's networks: an untrained network's probabilities are about 0.1."""

XS_CODA: dict[str, tuple[int, ...]] = {
    "channels": (16, 16, 32, 32, 10),
    "ranks": (16, 16, 16, 16, 32),
    "kernel_sizes": (3, 3, 3, 3, 1),
    "strides": (2, 1, 2, 1, 1),
    "paddings": (1, 1, 1, 1, 0),
}
"""Ours, for CIFAR-10 on a CPU: 310,528 parameters."""

S_CODA: dict[str, tuple[int, ...]] = {
    "channels": (16, 16, 32, 32, 32, 64, 64, 64, 10),
    "ranks": (32, 32, 64, 64, 64, 64, 64, 64, 64),
    "kernel_sizes": (3, 3, 3, 3, 3, 3, 3, 3, 1),
    "strides": (1, 1, 2, 1, 1, 2, 1, 1, 1),
    "paddings": (1, 1, 1, 1, 1, 1, 1, 1, 0),
}
"""The paper's network for CIFAR-10: 7,782,816 parameters."""

M_CODA: dict[str, tuple[int, ...]] = {
    "channels": (16, 32, 32, 64, 64, 64, 64, 64, 200),
    "ranks": (32, 32, 32, 64, 64, 64, 128, 128, 128),
    "kernel_sizes": (5, 3, 3, 3, 3, 3, 3, 3, 1),
    "strides": (2, 1, 1, 2, 1, 1, 2, 1, 1),
    "paddings": (2, 1, 1, 1, 1, 1, 1, 1, 0),
}
"""Ours for Tiny-ImageNet: L-CoDA with half of its ranks and S-CoDA's last layer, so that images of 64 pixels end at
8×8 positions. 17,954,336 parameters for 200 classes, 16,468,256 for 20."""

L_CODA: dict[str, tuple[int, ...]] = {
    "channels": (16, 32, 32, 64, 64, 64, 64, 64, 100),
    "ranks": (64, 64, 64, 128, 128, 128, 256, 256, 256),
    "kernel_sizes": (7, 3, 3, 3, 3, 3, 3, 3, 3),
    "strides": (3, 1, 1, 2, 1, 1, 2, 1, 1),
    "paddings": (3, 1, 1, 1, 1, 1, 1, 1, 1),
}
"""The paper's network for the first 100 classes of ImageNet: 47,517,408 parameters."""


def layers_for(image_size: int) -> dict[str, tuple[int, ...]]:
    """Ours, for images of a few classes on a CPU: layers of a `CoDANet` that end at 8×8 to 15×15 positions.

    Only the stride of the first layer, 1, 2, 4 and so on, goes by the images' size in pixels. Kernels are multiples of
    the strides, which leaves no grid in contribution maps. The last number of `channels` is 0, to be put in: that of
    the classes. For 64 pixels and ten classes there are 1,567,616 parameters.
    """
    check_whole("image_size", image_size)
    stride = 1 << max(0, (image_size // 32).bit_length() - 1)
    kernel_size, padding = (2 * stride, stride // 2) if stride > 1 else (3, 1)
    return {
        "channels": (16, 32, 64, 64, 0),
        "ranks": (8, 16, 16, 16, 32),
        "kernel_sizes": (kernel_size, 4, 4, 3, 3),
        "strides": (stride, 2, 2, 1, 1),
        "paddings": (padding, 1, 1, 1, 1),
    }


class CoDANet(nn.Module):
    """A stack of DAU layers with nothing between them, a global sum, a temperature and a bias.

    For each input the network is one matrix, which `decompose` returns with the logits.

    Attributes:
        channels: the units of each layer; the last number is that of the classes.
        ranks: r of each layer.
        kernel_sizes: k of each layer, in pixels.
        strides: the stride of each layer, in pixels.
        paddings: the padding of each layer with zeros, in pixels.
        norm: "sq" or "l2", for all layers.
        temperature: T, by which the sum over positions is divided.
        logit_bias: b₀, added to every logit.
        dtype: the dtype of the computation, or its name, one of `DTYPES`; sums are made in float32 at least.
        param_dtype: the dtype of the parameters.
        layer: the type of all layers, one of `LAYERS`.

    Lists of different lengths, and values out of range, raise InputError.

    Examples:
        >>> from functools import partial
        >>> from coda_jax import add_inverse
        >>> model = CoDANet(channels=(8, 10), ranks=(4, 4), kernel_sizes=(3, 1), strides=(2, 1), paddings=(1, 0))
        >>> inputs = add_inverse(jax.random.uniform(jax.random.key(0), (2, 16, 16, 3)))
        >>> variables = jax.jit(model.init)(jax.random.key(1), inputs)
        >>> decompose = jax.jit(partial(model.apply, method="decompose"))
        >>> logits, linear_map = decompose(variables, inputs)
        >>> logits.shape
        (2, 10)
        >>> applied = jax.jit(LinearMap.apply)(linear_map, inputs)
        >>> bool(jnp.allclose(applied + model.logit_bias, logits, rtol=1e-5))
        True
        >>> CoDANet(**S_CODA, temperature=1000.0).title
        '9L-S-CoDA-SQ-1000'
    """

    channels: Sequence[int]
    ranks: Sequence[int]
    kernel_sizes: Sequence[int]
    strides: Sequence[int]
    paddings: Sequence[int]
    norm: str = "sq"
    temperature: float = 1.0
    logit_bias: float = LOGIT_BIAS
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    layer: str = "dau"
    quantity = "contributions"

    def __post_init__(self) -> None:
        """Check the attributes, and make lists into tuples so that the module can be hashed."""
        lengths = {}
        for name, least in (("channels", 1), ("ranks", 1), ("kernel_sizes", 1), ("strides", 1), ("paddings", 0)):
            values = getattr(self, name)
            if not isinstance(values, Sequence) or not all(type(n) is int and n >= least for n in values):
                raise InputError(f"{name} must be whole numbers of at least {least}, one a layer, not {values}")
            object.__setattr__(self, name, tuple(values))
            lengths[name] = len(values)
        if len(set(lengths.values())) != 1 or not self.channels:
            found = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise InputError(f"every list must have one value a layer, but their lengths are: {found}")
        check_choice("norm", self.norm, NORMS)
        check_choice("layer", self.layer, tuple(LAYERS))
        check_dtype("dtype", self.dtype)
        check_dtype("param_dtype", self.param_dtype)
        check_number("temperature", self.temperature, above=0)
        check_number("logit_bias", self.logit_bias)
        super().__post_init__()

    @property
    def title(self) -> str:
        """The number of layers, the size if it has a name, the norm and the temperature."""
        sizes = {"XS-": XS_CODA, "S-": S_CODA, "M-": M_CODA, "L-": L_CODA}
        size = next((name for name, size in sizes.items() if all(getattr(self, key) == size[key] for key in size)), "")
        return f"{len(self.channels)}L-{size}CoDA-{self.norm.upper()}-{self.temperature:g}"

    @property
    def layer_names(self) -> tuple[str, ...]:
        """`layers_l` for each layer `l`."""
        return tuple(f"layers_{index}" for index in range(len(self.channels)))

    @property
    def gradcam_layer(self) -> str:
        """The last layer."""
        return self.layer_names[-1]

    def setup(self) -> None:
        """Make the layers."""
        sizes = zip(self.channels, self.ranks, self.kernel_sizes, self.strides, self.paddings, strict=True)
        self.layers = [LAYERS[self.layer](*size, self.norm, self.dtype, self.param_dtype) for size in sizes]

    def with_gram(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The variables, and in the collection "gram" the products that every call would make anew of the parameters.

        For small batches these products, the fields of `coda_jax.alignment.dau.Gram` of each layer, cost more than all
        the rest. After a change of the parameters they would give wrong answers. Only DAUs have such products.
        """
        layers = variables["params"] if issubclass(LAYERS[self.layer], DAUConv) else {}
        products = {
            name: gram(layer["A"].astype(self.dtype), layer["b"].astype(self.dtype))._asdict()
            for name, layer in layers.items()
        }
        return {**variables, "gram": products}

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Inputs [N, H, W, C] -> logits [N, K], float32 at least; raises as `decompose`."""
        return self.decompose(inputs)[0]

    def decompose(self, inputs: jax.Array) -> tuple[jax.Array, LinearMap]:
        """Logits [N, K], and the linear map with `logits = linear_map.apply(inputs) + logit_bias`.

        Inputs that are not floating-point [N, H, W, C], that have another number of channels than the parameters were
        made for, or that are too small for a layer's kernel raise InputError.
        """
        return in_sequence([*self.layers, self._sum], check_images("inputs", inputs))

    def _sum(self, inputs: jax.Array) -> tuple[jax.Array, SumPool]:
        """The logits [N, K] from the last layer's outputs [N, H, W, K], and the map to them without the bias."""
        pool = SumPool(inputs.shape[1:], self.temperature)
        return pool.apply(inputs) + self.logit_bias, pool


def check_dtype(name: str, dtype: Any) -> None:
    """Raise InputError unless `dtype` is one of `DTYPES`, or its name."""
    with contextlib.suppress(TypeError, ValueError):  # Not a dtype: reported unchanged.
        dtype = None if dtype is None else jnp.dtype(dtype).name  # NumPy makes float64 of None.
    check_choice(name, dtype, DTYPES)


def without_former_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a saved `CoDANet` without "forms" and "unit", which older versions wrote."""
    if attributes.get("unit", "full") != "full":
        raise InputError(f"unit is {attributes['unit']!r}, but only full units can be loaded now")
    return {name: value for name, value in attributes.items() if name not in ("forms", "unit")}
