"""Networks by the name of their architecture."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from coda_jax.errors import InputError
from coda_jax.errors.checks import check_choice, naming
from coda_jax.networks.bcos_resnet import BcosResNet
from coda_jax.networks.coda_net import CoDANet, without_former_attributes
from coda_jax.networks.hybrid import HybridNet
from coda_jax.networks.resnet import ResNet, ResNetTrunk
from coda_jax.networks.vgg import VGG

TRUNKS: dict[str, Callable[..., nn.Module]] = {"resnet": ResNetTrunk}


def _hybrid(trunk: Mapping[str, Any], head: Mapping[str, Any]) -> HybridNet:
    """The hybrid of a trunk, described by "architecture", one of `TRUNKS`, and its attributes, and of a `CoDANet`."""
    attributes = {"architecture": None, **trunk}
    name = attributes.pop("architecture")
    check_choice("the trunk's architecture", name, tuple(TRUNKS))
    return HybridNet(TRUNKS[name](**attributes), CoDANet(**head))


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "coda_net": CoDANet,
    "hybrid": _hybrid,
    "bcos_resnet": BcosResNet,
    "resnet": ResNet,
    "vgg": VGG,
}


def make_model(attributes: Mapping[str, Any]) -> nn.Module:
    """The network that a configuration describes by its attributes and its "architecture", by default a `CoDANet`.

    Attributes that are missing, unknown or out of range raise InputError.
    """
    attributes = without_former_attributes({"architecture": "coda_net", **attributes})
    name = attributes.pop("architecture")
    check_choice("architecture", name, tuple(ARCHITECTURES))
    with naming("the configuration's model"):
        model = ARCHITECTURES[name](**attributes)
    if jnp.dtype(getattr(model, "head", model).dtype) == jnp.float64 and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise InputError("dtype is float64, which JAX computes with only where JAX_ENABLE_X64=1 is set")
    return model
