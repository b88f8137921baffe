"""What each input value contributes to a logit, exactly, from the weights that the forward pass computed.

A CoDA-Net is a matrix `W(x)` for each input `x` (Böhle et al., CVPR 2021): `logit_c - b₀ = Σ_i W(x)[c, i]·x_i`. The
terms of the sum are the contributions. They follow from one forward pass and the transposes of its layers' maps,
without differentiation; a gradient would differentiate the weights as well, and give other maps.

A hybrid's features take the place of the inputs: its head is the matrix, and the contributions are those of the
features, exactly; they do not say how the pixels made the features.

The functions of a network take a `CoDANet`, a `HybridNet` or a `BcosResNet`, its variables as from `model.init`, and

    inputs: [N, H, W, 6], encoded images.
    targets: None for the predicted class (T = 1), "all" for every class (T = K), whole numbers [N] (T = 1) or [N, T].
        Under `jax.jit`, where values are not known, a class that does not exist has zeros for its result.
    layer: the layer whose input's values contribute: 0 for the image, or for the features of a hybrid; up to the number
        of layers, for what is summed over positions.
    chunk_size: the number of examples that are explained at a time, which bounds the memory; None for all at once.

They raise InputError for inputs that are not floating-point [N, H, W, 6] in [0, 1] (their range is not looked at when
traced), for variables of another network, and for a class or a layer that does not exist.

Examples:
    >>> from coda_jax import CoDANet, add_inverse
    >>> model = CoDANet(channels=(8, 10), ranks=(4, 4), kernel_sizes=(3, 1), strides=(2, 1), paddings=(1, 0))
    >>> inputs = add_inverse(jax.random.uniform(jax.random.key(0), (2, 16, 16, 3)))
    >>> variables = jax.jit(model.init)(jax.random.key(1), inputs)
    >>> every_class = contributions(model, variables, inputs, targets="all")
    >>> every_class.shape
    (2, 10, 16, 16, 6)
    >>> logits = jax.jit(model.apply)(variables, inputs)
    >>> bool(jnp.allclose(every_class.sum((2, 3, 4)) + model.logit_bias, logits, rtol=1e-5))
    True
    >>> rows = linear_weights(model, variables, inputs, targets="all")
    >>> bool(jnp.allclose(rows * inputs[:, None], every_class))
    True
    >>> [layer_contributions(model, variables, inputs, layer=layer).shape for layer in (1, 2)]
    [(2, 1, 8, 8, 8), (2, 1, 8, 8, 10)]
    >>> logits, targets, maps = explain(model, variables, inputs, targets=[[3, 7], [0, 7]])  # Two of each image.
    >>> logits.shape, maps.shape
    ((2, 10), (2, 2, 16, 16, 6))
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from coda_jax.alignment.chunks import map_batches
from coda_jax.alignment.linear_map import LinearMap
from coda_jax.errors import InputError
from coda_jax.errors.checks import Targets, as_array, check_pixels, check_targets, check_whole, naming
from coda_jax.networks.bcos_resnet import BcosResNet
from coda_jax.networks.coda_net import CoDANet
from coda_jax.networks.hybrid import HybridNet
from coda_jax.networks.variables import check_variables

Network = BcosResNet | CoDANet | HybridNet
Variables = Mapping[str, Any]


class Explanation(NamedTuple):
    """A network's decisions, and how they came about.

    Attributes:
        logits: [N, K], float32 at least.
        targets: int [N, T], the classes that are explained.
        contributions: [N, T, H, W, C]; the sum over the last three axes is the target's `logit - logit_bias`.
    """

    logits: jax.Array
    targets: jax.Array
    contributions: jax.Array


def explain(
    model: Network,
    variables: Variables,
    inputs: jax.Array,
    targets: Targets = None,
    *,
    top: int = 1,
    layer: int = 0,
    chunk_size: int | None = None,
) -> Explanation:
    """Logits and the contributions that sum to them, from one forward pass.

    The module says what the arguments are. Where `targets` is None, the `top` most probable classes are explained
    (T = `top`), the most probable one first; more classes than the network has raise InputError.
    """
    return _explain(LinearMap.contributions, model, variables, inputs, targets, top, layer, chunk_size)


def contributions(
    model: Network, variables: Variables, inputs: jax.Array, targets: Targets = None, *, chunk_size: int | None = None
) -> jax.Array:
    """Contribution of every input value, or of every feature of a hybrid, to the targets' logits.

    The module says what the arguments are. The result is [N, T, H, W, 6], of a hybrid [N, T, Hf, Wf, Cf]; its sum over
    the last three axes is `logit - logit_bias`.
    """
    return explain(model, variables, inputs, targets, chunk_size=chunk_size).contributions


def layer_contributions(
    model: Network,
    variables: Variables,
    inputs: jax.Array,
    targets: Targets = None,
    layer: int = 0,
    *,
    chunk_size: int | None = None,
) -> jax.Array:
    """As `contributions`, but of the values of a layer's input: [N, T, Hl, Wl, Cl], with the same sum at any layer."""
    return explain(model, variables, inputs, targets, layer=layer, chunk_size=chunk_size).contributions


def layer_maps(
    model: Network, variables: Variables, inputs: jax.Array, targets: Targets = None, *, chunk_size: int | None = None
) -> list[jax.Array]:
    """The contribution maps in the space of every layer's input, [N, T, Hl, Wl] each, from one pass there and back.

    The module says what the arguments are. The maps of one class sum to `logit - logit_bias` at every layer.
    """
    return _explain(_map_of_every_layer, model, variables, inputs, targets, 1, 0, chunk_size).contributions


def linear_weights(
    model: Network, variables: Variables, inputs: jax.Array, targets: Targets = None, *, chunk_size: int | None = None
) -> jax.Array:
    """The targets' rows of the network's matrix `W(x)`, of the shapes of `contributions`."""
    return _explain(LinearMap.rows, model, variables, inputs, targets, 1, 0, chunk_size).contributions


def contribution_map(contributions: jax.Array) -> jax.Array:
    """Contribution of every pixel, the sum over its channels: [N, T, H, W, C] -> [N, T, H, W].

    Examples:
        >>> print(contribution_map(np.array([[[[[0.5, -0.25, 1.0]]]]])))
        [[[[1.25]]]]
    """
    contributions = as_array("contributions", contributions)
    if contributions.ndim != 5:
        raise InputError(f"contributions must have shape [N, T, H, W, C], not {list(contributions.shape)}")
    return jnp.sum(contributions, axis=-1)


def terms(contributions: np.ndarray, offset: float) -> str:
    """A logit as text: the sum of a class's contributions (any shape) for it and against it, and the bias, `offset`.

    Examples:
        >>> print(terms(np.array([1.5, -0.25, 0.5]), -2.0))
        2.00 − 0.25 − 2.00 = −0.25
    """
    positive, negative = contributions[contributions > 0].sum(), contributions[contributions < 0].sum()
    sign = "+" if offset > 0 else "-"
    sum_ = f"{positive:.2f} - {abs(negative):.2f} {sign} {abs(offset):.2f} = {positive + negative + offset:.2f}"
    return sum_.replace("-", "\N{MINUS SIGN}")


def upsampled_map(maps: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Contribution maps [N, T, h, w] of features, spread over an image of `size` (H, W) in pixels: [N, T, H, W].

    What a feature contributes is spread over the pixels around it with the weights of bilinear interpolation, made to
    sum to 1, so that a map keeps its sum whatever the sizes; maps of the image stay as they are. This is for looking at
    maps, and for metrics that ask for pixels. It adds no knowledge: contributions are exact at the features, whose
    receptive fields are larger than their share of the image, over which they are taken to lie evenly. Maps that are
    not floating-point or of another rank, and sizes below 1, raise InputError.

    Examples:
        >>> print(upsampled_map(np.array([[[[8.0, 0.0]]]]), size=(1, 4)))
        [[[[4. 3. 1. 0.]]]]
    """
    maps = jnp.asarray(as_array("maps", maps))
    if maps.ndim != 4 or not jnp.issubdtype(maps.dtype, jnp.floating):
        raise InputError(f"maps must be floating-point [N, T, h, w], not {maps.dtype} {list(maps.shape)}")
    if not isinstance(size, tuple | list) or len(size) != 2:
        raise InputError(f"size must be (H, W), such as (32, 32), not {size!r}")
    for pixels in size:
        check_whole("size", pixels)
    return _upsampled(maps, tuple(size))


@partial(jax.jit, static_argnums=1)
def _upsampled(maps: jax.Array, size: tuple[int, int]) -> jax.Array:
    """What `upsampled_map` returns, by a program that is compiled for the sizes."""

    def weights(pixels: int, features: int) -> jax.Array:
        interpolated = jax.image.resize(jnp.eye(features, dtype=maps.dtype), (pixels, features), "bilinear")
        return interpolated / jnp.sum(interpolated, axis=0)

    with jax.default_matmul_precision("highest"):
        return jnp.einsum("Hh,nthw,Ww->ntHW", weights(size[0], maps.shape[2]), maps, weights(size[1], maps.shape[3]))


def _map_of_every_layer(linear_map: LinearMap, targets: jax.Array) -> list[jax.Array]:
    """`layer_maps` of the map of a whole network."""
    rows = linear_map[-1:].rows(targets)
    maps = [contribution_map(rows * linear_map.inputs[-1][:, None])]
    for layer, layer_inputs in zip(linear_map.layers[-2::-1], linear_map.inputs[-2::-1], strict=True):
        rows = layer.transpose(rows)
        maps.append(contribution_map(rows * layer_inputs[:, None]))
    return maps[::-1]


def _explain(
    quantity: Callable[[LinearMap, jax.Array], Any],
    model: Network,
    variables: Variables,
    inputs: jax.Array,
    targets: Targets,
    top: int,
    layer: int,
    chunk_size: int | None,
) -> Explanation:
    """The explanation whose "contributions" are `quantity` of the map from `layer` on and the targets [N, T]."""
    inputs = check_pixels("inputs", inputs, channels=6)
    if not isinstance(model, HybridNet):
        check_variables(model, variables)
    check_whole("layer", layer, 0)
    if layer > len(model.channels):
        raise InputError(f"layer must be at most {len(model.channels)}, not {layer}")
    if chunk_size is not None:
        check_whole("chunk_size", chunk_size)
    classes = model.channels[-1]
    check_whole("top", top)
    if top > classes:
        raise InputError(f"top must be at most the number of classes, {classes}, not {top}")
    if targets is not None:
        targets = check_targets(targets, inputs.shape[0], classes)
    with naming("model cannot be applied to these variables and inputs"):
        return _explained((quantity, model, top, layer, chunk_size), variables, inputs, targets)


@partial(jax.jit, static_argnums=0)
def _explained(
    settings: tuple[Any, ...], variables: Variables, inputs: jax.Array, targets: jax.Array | None
) -> Explanation:
    """What `_explain` returns, by a program that is compiled for the settings."""
    quantity, model, top, layer, chunk_size = settings

    def explain_batch(batch: tuple[jax.Array, jax.Array | None]) -> Explanation:
        inputs, targets = batch
        linear_map: LinearMap  # Flax does not know what a method returns.
        logits, linear_map = model.apply(variables, inputs, method="decompose")
        if targets is None:
            targets = jax.lax.top_k(logits, top)[1]
        return Explanation(logits, targets, quantity(linear_map[layer:], targets))

    # TPUs and some GPUs would otherwise multiply in fewer bits, and the sums would no longer be exact.
    with jax.default_matmul_precision("highest"):
        return map_batches(explain_batch, (inputs, targets), chunk_size)
