"""Hybrids: CoDA layers after the early layers of a conventional network (Böhle, Fritz, Schiele, arXiv 2109.13004).

A trunk computes features of an image, and a CoDA-Net classifies them. The logits are, exactly, sums of contributions
from the features, which say nothing of how the features came from the pixels.
"""

from collections.abc import Mapping
from typing import Any

import jax
from flax import linen as nn

from coda_jax.alignment.linear_map import LinearMap
from coda_jax.errors import InputError
from coda_jax.errors.checks import check_images
from coda_jax.networks.coda_net import CoDANet


class HybridNet(nn.Module):
    """A trunk and, on its features, a CoDA-Net, whose variables are named "trunk" and "head".

    Attributes:
        trunk: any linen module with `__call__(inputs [N, H, W, C], train=False) -> features [N, Hf, Wf, Cf]`, of either
            sign and any scale; a fully convolutional one for images of any size, such as the metrics' grids. It may
            have batch statistics, in the collection "batch_stats".
        head: the network on the features.

    Examples:
        >>> from coda_jax import add_inverse
        >>> class Trunk(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, inputs, train=False):
        ...         return nn.relu(nn.Conv(8, (3, 3), strides=2)(inputs))
        >>> head = CoDANet(channels=(8, 10), ranks=(4, 4), kernel_sizes=(3, 1), strides=(2, 1), paddings=(1, 0))
        >>> model = HybridNet(Trunk(), head)
        >>> inputs = add_inverse(jax.random.uniform(jax.random.key(0), (2, 16, 16, 3)))
        >>> variables = jax.jit(model.init)(jax.random.key(1), inputs)
        >>> jax.jit(model.apply)(variables, inputs).shape
        (2, 10)
        >>> model.apply(variables, inputs, method="features").shape
        (2, 8, 8, 8)
    """

    trunk: nn.Module
    head: CoDANet
    quantity = "contributions of the features (upsampled)"
    layer_names = ("trunk", "head")

    def __post_init__(self) -> None:
        """Check the attributes."""
        if not isinstance(self.trunk, nn.Module):
            raise InputError(f"trunk must be a Flax linen module, not {self.trunk!r}")
        if not isinstance(self.head, CoDANet):
            raise InputError(f"head must be a CoDANet, not a {type(self.head).__name__}")
        super().__post_init__()

    @property
    def channels(self) -> tuple[int, ...]:
        """The head's channels."""
        return self.head.channels

    @property
    def logit_bias(self) -> float:
        """The head's b₀."""
        return self.head.logit_bias

    @property
    def title(self) -> str:
        """With the trunk's title, or its class where it has none."""
        return f"hybrid after {getattr(self.trunk, 'title', type(self.trunk).__name__)}"

    @property
    def gradcam_layer(self) -> str:
        """The head's last layer."""
        return f"head/{self.head.gradcam_layer}"

    def with_gram(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The variables, and the products of the head's parameters; see `CoDANet.with_gram`."""
        of_head = self.head.with_gram({"params": variables["params"]["head"]})
        return {**variables, "gram": {"head": of_head["gram"]}}

    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Inputs [N, H, W, C] -> logits [N, K], float32 at least; raises as `decompose`."""
        return self.decompose(inputs, train)[0]

    def features(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Inputs [N, H, W, C] -> the trunk's features [N, Hf, Wf, Cf]; raises as `decompose`."""
        return check_images("the trunk's features", self.trunk(check_images("inputs", inputs), train=train))

    def decompose(self, inputs: jax.Array, train: bool = False) -> tuple[jax.Array, LinearMap]:
        """Logits [N, K], and the linear map with `logits = linear_map.apply(features) + logit_bias`.

        With `train`, the trunk takes the statistics of the batch. InputError is raised for inputs that are not
        floating-point [N, H, W, C], and for features that are not, or that do not fit the head's parameters or kernels.
        """
        return self.head.decompose(self.features(inputs, train))
