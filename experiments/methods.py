"""The attribution methods that networks are compared by, and with which settings."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from jax.tree_util import Partial

from coda_jax import InputError, attribution
from coda_jax.attribution.protocol import LogitsFn
from coda_jax.contributions import contribution_map, contributions, upsampled_map

Variables = Mapping[str, Any]


class Method(NamedTuple):
    """An attribution method, and the settings with which networks are compared.

    Attributes:
        label: in figures.
        explain: from a network, its variables, inputs [N, H, W, 6] and targets [N, T] to attributions
            [N, T, H, W, 6], or [N, T, H, W, 1] where they are of pixels only.
        settings: that can be written as JSON.
        own: whether it is the network's own, which sums to the logit without its bias.
        default: whether it is measured where no methods are named.
    """

    label: str
    explain: Callable[[nn.Module, Variables, jax.Array, np.ndarray], jax.Array]
    settings: dict[str, Any]
    own: bool = False
    default: bool = True


def _post_hoc(label: str, method: Callable[..., jax.Array], seed: int | None = None, **settings: Any) -> Method:
    """A method that is applied from outside, to the network as a function."""

    def explain(model: nn.Module, variables: Variables, inputs: jax.Array, targets: np.ndarray) -> jax.Array:
        random = {} if seed is None else {"key": jax.random.key(seed)}
        return method(Partial(model.apply, variables), inputs, targets, **random, **settings)

    return Method(label, explain, settings if seed is None else {"seed": seed, **settings})


def explains_itself(model: nn.Module) -> bool:
    """Whether the network has contributions: whether its logits are those of a linear map that it gives."""
    return hasattr(model, "decompose")


def of_features(contributions: jax.Array, inputs: jax.Array) -> bool:
    """Whether contributions [N, T, h, w, c] are those of a hybrid's features, and not of the inputs [N, H, W, C]."""
    return contributions.shape[2:] != inputs.shape[1:]


def _contributions(model: nn.Module, variables: Variables, inputs: jax.Array, targets: np.ndarray) -> jax.Array:
    """The network's own; of a hybrid those of its features, upsampled."""
    attributions = contributions(model, variables, inputs, targets, chunk_size=16)
    if of_features(attributions, inputs):
        return upsampled_map(contribution_map(attributions), inputs.shape[1:3])[..., None]
    return attributions


def _averaged_contributions(
    model: nn.Module, variables: Variables, inputs: jax.Array, targets: np.ndarray, window: int
) -> jax.Array:
    """The mean of the contributions over a square window around each pixel: what an occlusion of it cannot resolve."""
    attributions = _contributions(model, variables, inputs, targets)
    images = attributions.reshape(-1, *attributions.shape[2:])
    averaged = nn.avg_pool(images, (window, window), padding="SAME", count_include_pad=False)
    return averaged.reshape(attributions.shape)


def _rise_of_probabilities(logits_fn: LogitsFn, inputs: jax.Array, targets: np.ndarray, **settings: Any) -> jax.Array:
    """RISE as published: masks are weighed by probabilities."""
    return attribution.rise(Partial(_probabilities, logits_fn), inputs, targets, **settings)


def _probabilities(logits_fn: LogitsFn, inputs: jax.Array) -> jax.Array:
    return jax.nn.sigmoid(logits_fn(inputs))


def _gradcam_at_last_layer(model: nn.Module, variables: Variables, inputs: jax.Array, targets: np.ndarray) -> jax.Array:
    return attribution.gradcam(Partial(model.apply, variables), inputs, targets, layer=model.gradcam_layer)


def _deeplift(model: nn.Module, variables: Variables, inputs: jax.Array, targets: np.ndarray) -> jax.Array:
    def make_logits_fn(activation: Callable, max_pool: Callable) -> LogitsFn:
        pooling = {"max_pool": max_pool} if hasattr(model, "max_pool") else {}
        return Partial(_replaced(model, activation=activation, **pooling).apply, variables)

    return attribution.deeplift(make_logits_fn, inputs, targets)


def _guided_backpropagation(
    model: nn.Module, variables: Variables, inputs: jax.Array, targets: np.ndarray
) -> jax.Array:
    return attribution.guided_backpropagation(
        lambda activation: Partial(_replaced(model, activation=activation).apply, variables), inputs, targets
    )


@cache  # JAX compiles anew for every new copy, as it compares bound methods by the identity of their objects.
def _replaced(model: nn.Module, **functions: Callable) -> nn.Module:
    """A copy of the network with other functions; raises InputError if it has no activations to replace."""
    if not hasattr(model, "activation"):
        raise InputError(f"{type(model).__name__} has no activation to replace, as this method does")
    return model.clone(**functions)


METHODS = {
    "contributions": Method("contributions", _contributions, {}, own=True),
    "contributions_9": Method("contributions 9×9", partial(_averaged_contributions, window=9), {"window": 9}, own=True),
    "occlusion_9": _post_hoc("occlusion 9×9", attribution.occlusion, window=9, stride=3),
    "occlusion_5": _post_hoc("occlusion 5×5", attribution.occlusion, window=5, stride=2),
    # For photographs: a window of 9 pixels in images of 32 is one of 36 in images of 128.
    "occlusion_36": _post_hoc("occlusion 36×36", attribution.occlusion, window=36, stride=18)._replace(default=False),
    "gradcam": Method("Grad-CAM", _gradcam_at_last_layer, {"layer": "last"}),
    "rise": _post_hoc("RISE", _rise_of_probabilities, seed=0, masks=1000, cells=6, probability=0.5),
    "lime": _post_hoc("LIME", attribution.lime, seed=0, segments=50, samples=500),
    "integrated_gradients": _post_hoc("integrated gradients", attribution.integrated_gradients, steps=20),
    "smoothgrad": _post_hoc("SmoothGrad", attribution.smoothgrad, seed=0, samples=25, noise=0.15),
    "input_x_gradient": _post_hoc("input×gradient", attribution.input_x_gradient),
    "gradient": _post_hoc("gradient", attribution.gradient),
    "deeplift": Method("DeepLIFT", _deeplift, {}),
    "guided_backpropagation": Method("guided backpropagation", _guided_backpropagation, {}),
}
"""All methods by the name that asks for them, the network's own contributions first; some networks refuse some."""


def refusal(
    name: str, model: nn.Module, variables: Variables, inputs: jax.Array, targets: np.ndarray, side: int
) -> str | None:
    """Why a method is not defined for such inputs [N, H, W, 6] of the network, and targets [N, T]; None if it is.

    The inputs are images, of `side` pixels, or grids of them.
    """
    window = METHODS[name].settings.get("window", 1)
    if window > side:
        return f"its window of {window}×{window} pixels is larger than the images, of {side}×{side}"
    if name == "lime":  # It is defined for every function, but its superpixels cannot be traced.
        return None
    try:
        jax.eval_shape(partial(METHODS[name].explain, model), variables, inputs, targets)
    except InputError as error:
        return str(error)
    return None
