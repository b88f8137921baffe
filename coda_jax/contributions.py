"""What each input value contributes to a logit, exactly, from the weights that the forward pass computed.

A CoDA-Net is a matrix `W(x)` for each input `x` (Böhle et al., CVPR 2021): `logit_c - b₀ = Σ_i W(x)[c, i]·x_i`. The
terms of the sum are the contributions. They follow from one forward pass and the transposes of its layers' maps,
without differentiation; a gradient would differentiate the weights as well, and give other maps.

A hybrid's features take the place of the inputs: its head is the matrix, and the contributions are those of the
features, exactly; what the pixels contributed to the features they do not say.

All functions take a `CoDANet` or a `HybridNet`, its variables and encoded inputs [N, H, W, C], and agree on:

    targets: None for the predicted class (T = 1), "all" for every class (T = K), whole numbers [N] (T = 1) or [N, T].
        A class that does not exist raises InputError; under `jax.jit`, where values are not known, its result is zero.
    chunk_size: explain so many examples at a time, which bounds the memory; None for all at once.

Inputs that are not floating-point [N, H, W, 6] in [0, 1] raise InputError (their range is not looked at when traced).
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from coda_jax.checks import as_array, check_whole, naming
from coda_jax.chunks import map_batches
from coda_jax.encoding import check_pixels
from coda_jax.errors import InputError
from coda_jax.hybrid import HybridNet
from coda_jax.models import CoDANet, check_variables
from coda_jax.targets import check_targets

Targets = jax.Array | np.ndarray | str | None


def contributions(
    model: CoDANet | HybridNet,
    variables: Mapping[str, Any],
    inputs: jax.Array,
    targets: Targets = None,
    *,
    chunk_size: int | None = None,
) -> jax.Array:
    """Contribution of every input value, or of every feature of a hybrid, to the targets' logits.

    Args:
        model: the network.
        variables: its parameters, as from `model.init`.
        inputs: [N, H, W, 6].
        targets: see the module.
        chunk_size: see the module.

    Returns:
        [N, T, H, W, 6], of a hybrid [N, T, Hf, Wf, Cf]; the sum over the last three axes is `logit - logit_bias`.

    Raises:
        InputError: see the module.

    Examples:
        >>> from coda_jax import CoDANet, add_inverse
        >>> model = CoDANet(channels=(8, 10), ranks=(4, 4), kernel_sizes=(3, 1), strides=(2, 1), paddings=(1, 0))
        >>> inputs = add_inverse(jax.random.uniform(jax.random.key(0), (2, 16, 16, 3)))
        >>> variables = model.init(jax.random.key(1), inputs)
        >>> of_all = contributions(model, variables, inputs, targets="all")
        >>> of_all.shape
        (2, 10, 16, 16, 6)
        >>> logits = model.apply(variables, inputs)
        >>> bool(jnp.allclose(of_all.sum((2, 3, 4)) + model.logit_bias, logits, rtol=1e-5))
        True
        >>> contributions(model, variables, inputs, targets=[[3, 7], [0, 7]]).shape  # Two classes of each image.
        (2, 2, 16, 16, 6)
    """
    return layer_contributions(model, variables, inputs, targets, 0, chunk_size=chunk_size)


def layer_contributions(
    model: CoDANet | HybridNet,
    variables: Mapping[str, Any],
    inputs: jax.Array,
    targets: Targets = None,
    layer: int = 0,
    *,
    chunk_size: int | None = None,
) -> jax.Array:
    """Contribution of every value of the input of one layer, or of one of a hybrid's head, to the targets' logits.

    Args:
        model: the network.
        variables: its parameters.
        inputs: [N, H, W, 6].
        targets: see the module.
        layer: from 0, whose input is the image, or the features of a hybrid, to the number of layers, for what is
            summed over positions.
        chunk_size: see the module.

    Returns:
        [N, T, Hl, Wl, Cl] in the space of that layer's input; sums to `logit - logit_bias` at every layer.

    Raises:
        InputError: see the module; or a layer that does not exist.

    Examples:
        >>> from coda_jax import CoDANet, add_inverse
        >>> model = CoDANet(channels=(8, 10), ranks=(4, 4), kernel_sizes=(3, 1), strides=(2, 1), paddings=(1, 0))
        >>> inputs = add_inverse(jax.random.uniform(jax.random.key(0), (2, 16, 16, 3)))
        >>> variables = model.init(jax.random.key(1), inputs)
        >>> [layer_contributions(model, variables, inputs, layer=layer).shape for layer in (0, 1, 2)]
        [(2, 1, 16, 16, 6), (2, 1, 8, 8, 8), (2, 1, 8, 8, 10)]
    """
    rows, layer_inputs = _explain(model, variables, inputs, targets, layer, chunk_size)
    return rows * layer_inputs[:, None]


def linear_weights(
    model: CoDANet | HybridNet,
    variables: Mapping[str, Any],
    inputs: jax.Array,
    targets: Targets = None,
    *,
    chunk_size: int | None = None,
) -> jax.Array:
    """The targets' rows of the network's matrix `W(x)`; arguments and shapes as for `contributions`.

    Examples:
        >>> from coda_jax import CoDANet, add_inverse
        >>> model = CoDANet(channels=(8, 10), ranks=(4, 4), kernel_sizes=(3, 1), strides=(2, 1), paddings=(1, 0))
        >>> inputs = add_inverse(jax.random.uniform(jax.random.key(0), (2, 16, 16, 3)))
        >>> variables = model.init(jax.random.key(1), inputs)
        >>> rows = linear_weights(model, variables, inputs)
        >>> bool(jnp.allclose(rows * inputs[:, None], contributions(model, variables, inputs)))
        True
    """
    return _explain(model, variables, inputs, targets, 0, chunk_size)[0]


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


def upsampled_map(maps: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Contribution maps of features, spread over the image; maps of the image stay as they are.

    What a feature contributes is spread over the pixels around it with the weights of bilinear interpolation, made to
    sum to 1, so that a map keeps its sum whatever the sizes. This is for looking at maps, and for metrics that ask for
    pixels. It adds no knowledge: contributions are exact at the features, whose receptive fields are larger than
    their share of the image, and it is taken that the features lie evenly over it.

    Args:
        maps: [N, T, h, w], from `contribution_map`.
        size: (H, W) of the image, in pixels.

    Returns:
        [N, T, H, W].

    Raises:
        InputError: maps of another shape, or a size that is not two whole numbers of at least 1.

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

    def weights(pixels: int, features: int) -> jax.Array:
        interpolated = jax.image.resize(jnp.eye(features, dtype=maps.dtype), (pixels, features), "bilinear")
        return interpolated / jnp.sum(interpolated, axis=0)

    with jax.default_matmul_precision("highest"):
        return jnp.einsum("Hh,nthw,Ww->ntHW", weights(size[0], maps.shape[2]), maps, weights(size[1], maps.shape[3]))


def _explain(
    model: CoDANet | HybridNet,
    variables: Mapping[str, Any],
    inputs: jax.Array,
    targets: Targets,
    layer: int,
    chunk_size: int | None,
) -> tuple[jax.Array, jax.Array]:
    """The targets' rows of the map from `layer` on, [N, T, Hl, Wl, Cl], and that layer's input [N, Hl, Wl, Cl]."""
    inputs = check_pixels("inputs", inputs, channels=6)
    if not isinstance(model, HybridNet):
        check_variables(model, variables)
    check_whole("layer", layer, 0)
    if layer > len(model.channels):
        raise InputError(f"layer must be at most {len(model.channels)}, not {layer}")
    if chunk_size is not None:
        check_whole("chunk_size", chunk_size)
    classes = model.channels[-1]
    if isinstance(targets, str):
        if targets != "all":
            raise InputError(f'targets must be None, "all", or class numbers, not "{targets}"')
        targets = jnp.broadcast_to(jnp.arange(classes), (inputs.shape[0], classes))
    elif targets is not None:
        targets = check_targets(targets, inputs.shape[0], classes)
    with naming("model cannot be applied to these variables and inputs"):
        return _rows(model, layer, chunk_size, variables, inputs, targets)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _rows(
    model: CoDANet | HybridNet,
    layer: int,
    chunk_size: int | None,
    variables: Mapping[str, Any],
    inputs: jax.Array,
    targets: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    def explain(batch: tuple[jax.Array, jax.Array | None]) -> tuple[jax.Array, jax.Array]:
        inputs, targets = batch
        (logits, linear_map), sown = model.apply(variables, inputs, method="decompose", mutable=["intermediates"])
        if targets is None:
            targets = jnp.argmax(logits, axis=-1)[:, None]
        one_hot = jax.nn.one_hot(targets, logits.shape[-1], dtype=logits.dtype)
        of_layers = sown["intermediates"]["head"] if isinstance(model, HybridNet) else sown["intermediates"]
        return linear_map[layer:].transpose(one_hot), of_layers["layer_inputs"][layer]

    # TPUs and some GPUs would otherwise multiply in fewer bits, and the sums would no longer be exact.
    with jax.default_matmul_precision("highest"):
        return map_batches(explain, (inputs, targets), chunk_size)
