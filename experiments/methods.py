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


MakeLogitsFn = Callable[..., LogitsFn]
"""From functions by name, `activation` and `max_pool`, to a network with these in the place of its own."""


class Method(NamedTuple):
    """An attribution method, and the settings with which networks are compared.

    Attributes:
        label: in figures.
        explain: from a network, its variables, inputs [N, H, W, 6] and targets [N, T] to attributions
            [N, T, H, W, 6], or [N, T, H, W, 1] where they are of pixels only.
        settings: that can be written as JSON.
        own: whether it is the network's own, which sums to the logit without its bias.
        default: whether it is measured where no methods are named.
        of_pixels: whether its settings are of pixels, and mean nothing to the inputs of a layer.
        of_function: from any `MakeLogitsFn`, inputs [N, H, W, C] and targets [N, T] to attributions [N, T, H, W, C] (of
            Grad-CAM, with the inputs in the place of the layer's output); None for the network's own.
    """

    label: str
    explain: Callable[[nn.Module, Variables, jax.Array, np.ndarray], jax.Array]
    settings: dict[str, Any]
    own: bool = False
    default: bool = True
    of_pixels: bool = False
    of_function: Callable[[MakeLogitsFn, jax.Array, np.ndarray], jax.Array] | None = None


def _post_hoc(
    label: str, method: Callable[..., jax.Array], seed: int | None = None, of_pixels: bool = False, **settings: Any
) -> Method:
    """A method that is applied from outside, to the network as a function."""

    def of_function(make: MakeLogitsFn, inputs: jax.Array, targets: np.ndarray) -> jax.Array:
        random = {} if seed is None else {"key": jax.random.key(seed)}
        return method(make(), inputs, targets, **random, **settings)

    return _of_functions(label, of_function, settings if seed is None else {"seed": seed, **settings}, of_pixels)


def _of_functions(
    label: str, of_function: Callable[..., jax.Array], settings: dict[str, Any], of_pixels: bool = False
) -> Method:
    """A method of any function, here of the whole network."""

    def explain(model: nn.Module, variables: Variables, inputs: jax.Array, targets: np.ndarray) -> jax.Array:
        return of_function(partial(as_function, model, variables), inputs, targets)

    return Method(label, explain, settings, of_pixels=of_pixels, of_function=of_function)


def as_function(model: nn.Module, variables: Variables, **functions: Callable) -> LogitsFn:
    """The network from inputs to logits, with functions in the place of its `activation` and, if it has it, `max_pool`.

    Raises InputError if there are such functions, and no activation.
    """
    return Partial((_replaced(model, **functions) if functions else model).apply, variables)


@cache  # JAX compiles anew for every new copy, as it compares bound methods by the identity of their objects.
def _replaced(model: nn.Module, **functions: Callable) -> nn.Module:
    """A copy of the network with other functions."""
    if not hasattr(model, "activation"):
        raise InputError(f"{type(model).__name__} has no activation to replace, as this method does")
    return model.clone(**{name: function for name, function in functions.items() if hasattr(model, name)})


def explains_itself(model: nn.Module) -> bool:
    """Whether the network has contributions: whether its logits are those of a linear map that it gives."""
    return hasattr(model, "decompose")


def of_features(contributions: jax.Array, inputs: jax.Array) -> bool:
    """Whether contributions [N, T, h, w, c] are those of a hybrid's features, and not of the inputs [N, H, W, C]."""
    return contributions.shape[2:] != inputs.shape[1:]


def own_contributions(model: nn.Module, variables: Variables, inputs: jax.Array, targets: np.ndarray) -> jax.Array:
    """The network's own; of a hybrid those of its features, upsampled."""
    attributions = contributions(model, variables, inputs, targets, chunk_size=16)
    if of_features(attributions, inputs):
        return upsampled_map(contribution_map(attributions), inputs.shape[1:3])[..., None]
    return attributions


def averaged(attributions: jax.Array, window: int) -> jax.Array:
    """The mean [N, T, H, W, C] over a square window around each pixel: what an occlusion of it cannot resolve."""
    images = attributions.reshape(-1, *attributions.shape[2:])
    means = nn.avg_pool(images, (window, window), padding="SAME", count_include_pad=False)
    return means.reshape(attributions.shape)


def _averaged_contributions(
    model: nn.Module, variables: Variables, inputs: jax.Array, targets: np.ndarray, window: int
) -> jax.Array:
    return averaged(own_contributions(model, variables, inputs, targets), window)


def _rise_of_probabilities(logits_fn: LogitsFn, inputs: jax.Array, targets: np.ndarray, **settings: Any) -> jax.Array:
    """RISE as published: masks are weighed by probabilities."""
    return attribution.rise(Partial(_probabilities, logits_fn), inputs, targets, **settings)


def _probabilities(logits_fn: LogitsFn, inputs: jax.Array) -> jax.Array:
    return jax.nn.sigmoid(logits_fn(inputs))


def _gradcam_at_last_layer(model: nn.Module, variables: Variables, inputs: jax.Array, targets: np.ndarray) -> jax.Array:
    return attribution.gradcam(Partial(model.apply, variables), inputs, targets, layer=model.gradcam_layer)


def _gradcam_of_inputs(make: MakeLogitsFn, inputs: jax.Array, targets: np.ndarray) -> jax.Array:
    return attribution.gradcam(make(), inputs, targets, features=_unchanged)


def _unchanged(inputs: jax.Array) -> jax.Array:
    return inputs


def _deeplift(make: MakeLogitsFn, inputs: jax.Array, targets: np.ndarray) -> jax.Array:
    return attribution.deeplift(
        lambda activation, max_pool: make(activation=activation, max_pool=max_pool), inputs, targets
    )


def _guided_backpropagation(make: MakeLogitsFn, inputs: jax.Array, targets: np.ndarray) -> jax.Array:
    return attribution.guided_backpropagation(lambda activation: make(activation=activation), inputs, targets)


METHODS = {
    "contributions": Method("contributions", own_contributions, {}, own=True),
    "contributions_9": Method(
        "contributions 9×9", partial(_averaged_contributions, window=9), {"window": 9}, own=True, of_pixels=True
    ),
    "occlusion_9": _post_hoc("occlusion 9×9", attribution.occlusion, of_pixels=True, window=9, stride=3),
    "occlusion_5": _post_hoc("occlusion 5×5", attribution.occlusion, of_pixels=True, window=5, stride=2),
    # For photographs: a window of 9 pixels in images of 32 is one of 36 in images of 128.
    "occlusion_36": _post_hoc("occlusion 36×36", attribution.occlusion, of_pixels=True, window=36, stride=18)._replace(
        default=False
    ),
    "gradcam": Method("Grad-CAM", _gradcam_at_last_layer, {"layer": "last"}, of_function=_gradcam_of_inputs),
    "rise": _post_hoc("RISE", _rise_of_probabilities, seed=0, of_pixels=True, masks=1000, cells=6, probability=0.5),
    "lime": _post_hoc("LIME", attribution.lime, seed=0, of_pixels=True, segments=50, samples=500),
    "integrated_gradients": _post_hoc("integrated gradients", attribution.integrated_gradients, steps=20),
    "smoothgrad": _post_hoc("SmoothGrad", attribution.smoothgrad, seed=0, of_pixels=True, samples=25, noise=0.15),
    "input_x_gradient": _post_hoc("input×gradient", attribution.input_x_gradient),
    "gradient": _post_hoc("gradient", attribution.gradient),
    "deeplift": _of_functions("DeepLIFT", _deeplift, {}),
    "guided_backpropagation": _of_functions("guided backpropagation", _guided_backpropagation, {}),
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
