"""B-cos residual networks (Böhle, Singh, Fritz, Schiele, TPAMI 2024, arXiv 2306.10898).

Their units take the place of activation functions. Each is one matrix for each input, as a CoDA-Net is, and
`coda_jax.contributions` explains it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from coda_jax.alignment.bcos import BcosConv, Residual, average_pool
from coda_jax.alignment.linear_map import LinearMap, SumPool, in_sequence
from coda_jax.errors import InputError
from coda_jax.errors.checks import check_images, check_number, check_whole
from coda_jax.networks.coda_net import check_dtype

RESNET_18: dict[str, Any] = {"blocks": (2, 2, 2, 2)}
RESNET_34: dict[str, Any] = {"blocks": (3, 4, 6, 3)}
RESNET_50: dict[str, Any] = {"blocks": (3, 4, 6, 3), "bottleneck_width": 64}
RESNET_101: dict[str, Any] = {"blocks": (3, 4, 23, 3), "bottleneck_width": 64}
RESNET_152: dict[str, Any] = {"blocks": (3, 8, 36, 3), "bottleneck_width": 64}
CIFAR_RESNET_20: dict[str, Any] = {"blocks": (3, 3, 3), "width": 16, "small_images": True}
CIFAR_RESNET_56: dict[str, Any] = {"blocks": (9, 9, 9), "width": 16, "small_images": True}


class BcosResNet(nn.Module):
    """A residual network of B-cos layers, for images of any size.

    It has a first layer; stages of residual blocks, each of which but the first halves the resolution and doubles the
    channels; a 1×1 layer with a unit for each class; and the mean over positions, a temperature and a bias. The outputs
    of all layers but the last are normalised.

    Attributes:
        blocks: The number of residual blocks of each stage.
        num_classes: K, at least 2.
        width: The channels of the first layer and, in blocks of two 3×3 layers, of the first stage.
        bottleneck_width: The channels of the 3×3 layers of the first stage in blocks of three layers, which end with
            4·`width` channels; None for blocks of two.
        small_images: Whether the first layer is 3×3; else it is 7×7 with stride 2, and 3×3 average pooling follows.
        b: B of all layers.
        maxout: M, the number of weights of each unit.
        temperature: T, by which the mean over positions is divided.
        logit_bias: b₀, added to every logit; None for -log(K - 1), at which all classes have the probability 1/K.
        dtype: The dtype of the computation, or its name, one of `coda_net.DTYPES`; the parameters are float32.

    Values out of range raise InputError.

    Examples:
        >>> from coda_jax import add_inverse
        >>> model = BcosResNet(blocks=(1, 1), num_classes=10, width=8, small_images=True)
        >>> inputs = add_inverse(jax.random.uniform(jax.random.key(0), (2, 8, 8, 3)))
        >>> variables = jax.jit(model.init)(jax.random.key(1), inputs)
        >>> decompose = jax.jit(partial(model.apply, method="decompose"))
        >>> logits, linear_map = decompose(variables, inputs)
        >>> applied = jax.jit(LinearMap.apply)(linear_map, inputs)
        >>> bool(jnp.allclose(applied + model.logit_bias, logits, rtol=1e-5))
        True
    """

    blocks: Sequence[int]
    num_classes: int
    width: int = 64
    bottleneck_width: int | None = None
    small_images: bool = False
    b: float = 2.0
    maxout: int = 1
    temperature: float = 1.0
    logit_bias: float | None = None
    dtype: jnp.dtype = jnp.float32
    quantity = "contributions"

    def __post_init__(self) -> None:
        """Check the attributes, make a list into a tuple so that the module can be hashed, and fill in the bias."""
        if not isinstance(self.blocks, Sequence) or not self.blocks:
            raise InputError(f"blocks must be whole numbers of at least 1, one a stage, not {self.blocks!r}")
        for count in self.blocks:
            check_whole("blocks", count)
        object.__setattr__(self, "blocks", tuple(self.blocks))
        check_whole("num_classes", self.num_classes, 2)
        for name in ("width", "maxout", *(() if self.bottleneck_width is None else ("bottleneck_width",))):
            check_whole(name, getattr(self, name))
        check_number("b", self.b, least=1)
        check_number("temperature", self.temperature, above=0)
        if self.logit_bias is None:
            object.__setattr__(self, "logit_bias", -math.log(self.num_classes - 1))
        check_number("logit_bias", self.logit_bias)
        check_dtype("dtype", self.dtype)
        super().__post_init__()

    def clone(self, **changes: Any) -> "BcosResNet":
        """A copy with changes; with the default bias for another number of classes, where this one's is the default."""
        if "num_classes" in changes and self.logit_bias == -math.log(self.num_classes - 1):
            changes = {"logit_bias": None, **changes}
        return super().clone(**changes)

    @property
    def title(self) -> str:
        """With the number of layers, shortcuts excepted, such as B-cos ResNet-50."""
        return f"B-cos ResNet-{2 + sum(self.blocks) * (2 if self.bottleneck_width is None else 3)}"

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The names of layers and blocks in the parameters, as in torchvision."""
        return ("conv1", *self._blocks(), "fc")

    @property
    def gradcam_layer(self) -> str:
        """The last layer."""
        return self.layer_names[-1]

    @property
    def channels(self) -> tuple[int, ...]:
        """The channels of the output of each of `decompose`'s maps but the last; the last number is K."""
        stem = (self.width,) if self.small_images else (self.width, self.width)
        return (*stem, *(sizes[0] for sizes in self._blocks().values()), self.num_classes)

    def with_gram(self, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """The variables as they are: B-cos layers have no products to make once, as those of `CoDANet.with_gram`."""
        return variables

    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Inputs [N, H, W, 6] -> logits [N, K], float32 at least; `train` and errors as of `decompose`."""
        return self.decompose(inputs, train)[0]

    @nn.compact
    def decompose(self, inputs: jax.Array, train: bool = False) -> tuple[jax.Array, LinearMap]:
        """Inputs [N, H, W, 6] -> (logits [N, K], the map with `logits = linear_map.apply(inputs) + logit_bias`).

        The map is that of the first layer, the pooling after it if any, each block, the last layer and the mean. With
        `train`, outputs are normalised by the variances of the batch, and "batch_stats" must be mutable. Inputs of
        another shape or dtype raise InputError.
        """
        inputs = check_images("inputs", inputs, encoded=True)
        conv = partial(BcosConv, b=self.b, maxout=self.maxout, dtype=self.dtype)
        normalised = partial(conv, batch_norm=True, train=train)
        if self.small_images:
            layers: list[Callable] = [normalised(self.width, 3, 1, 1, name="conv1")]
        else:
            layers = [normalised(self.width, 7, 2, 3, name="conv1"), partial(average_pool, size=3, stride=2, padding=1)]
        layers += [BcosBlock(*sizes, normalised, name=name) for name, sizes in self._blocks().items()]
        return in_sequence([*layers, conv(self.num_classes, 1, name="fc"), self._mean], inputs)

    def _mean(self, inputs: jax.Array) -> tuple[jax.Array, SumPool]:
        """The logits [N, K] from the last layer's outputs [N, H, W, K], and the map to them without the bias."""
        pool = SumPool(inputs.shape[1:], self.temperature * inputs.shape[1] * inputs.shape[2])
        return pool.apply(inputs) + self.logit_bias, pool  # type: ignore[operator]

    def _blocks(self) -> dict[str, tuple[int, int | None, int]]:
        """`BcosBlock`'s channels, bottleneck width and stride for each block, by its name."""
        blocks = {}
        for stage, count in enumerate(self.blocks):
            channels, narrow = self.width * 2**stage, None
            if self.bottleneck_width is not None:
                channels, narrow = 4 * channels, self.bottleneck_width * 2**stage
            for place in range(count):
                blocks[f"layer{stage + 1}_{place}"] = (channels, narrow, 2 if stage and not place else 1)
        return blocks


class BcosBlock(nn.Module):
    """Two 3×3 layers, or a 1×1, a 3×3 and a 1×1 layer where there is a `bottleneck_width`, the channels between them.

    The block's input is added to their output, through a 1×1 layer where the shapes differ. The `stride`, in pixels, is
    that of the first 3×3 layer. `layer` makes a normalised `BcosConv`.
    """

    channels: int
    bottleneck_width: int | None
    stride: int
    layer: Callable[..., BcosConv]

    @nn.compact
    def __call__(self, inputs: jax.Array) -> tuple[jax.Array, Residual]:
        """[N, H, W, C] -> (outputs [N, ⌈H / stride⌉, ⌈W / stride⌉, channels], the map that was applied)."""
        if self.bottleneck_width is None:
            sizes = [(self.channels, 3, self.stride), (self.channels, 3, 1)]
        else:
            sizes = [(self.bottleneck_width, 1, 1), (self.bottleneck_width, 3, self.stride), (self.channels, 1, 1)]
        layers = [self.layer(*size, size[1] // 2, name=f"conv{index}") for index, size in enumerate(sizes, 1)]
        outputs, linear_map = in_sequence(layers, inputs)
        if self.stride == 1 and self.channels == inputs.shape[-1]:
            return outputs + inputs, Residual(linear_map, None)
        added, shortcut = self.layer(self.channels, 1, self.stride, name="downsample")(inputs)
        return outputs + added, Residual(linear_map, shortcut)
