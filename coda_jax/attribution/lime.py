"""LIME: local interpretable model-agnostic explanations (Ribeiro, Singh, Guestrin, KDD 2016, arXiv 1602.04938)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from coda_jax.attribution.protocol import LogitsFn, check_arguments, check_baseline, compute_logits
from coda_jax.errors import InputError
from coda_jax.errors.checks import Targets, check_key, check_number, check_whole
from coda_jax.errors.extras import need


def lime(
    logits_fn: LogitsFn,
    inputs: jax.Array,
    targets: Targets = None,
    *,
    key: jax.Array,
    segments: int = 50,
    compactness: float = 10.0,
    samples: int = 500,
    ridge: float = 1.0,
    kernel_width: float = 0.25,
    fill: jax.Array | float = 0.0,
    copies_at_once: int = 64,
) -> jax.Array:
    """The coefficients of a linear model that predicts a logit from which superpixels are shown.

    A superpixel is shown or hidden with probability 1/2 in each sample; the first sample shows all. The model is a
    ridge regression with a constant term. A sample has the weight `exp(-d² / kernel_width²)`, where `d` is the cosine
    distance of its on/off vector `z` from the vector of ones, `d = 1 - sqrt(mean(z))`. (The square root that the
    authors' program takes of this weight is a `kernel_width` larger by `sqrt(2)`.) A coefficient is shared evenly by
    the pixels of its superpixel.

    Superpixels and regression are computed on the host: traced arguments raise InputError. For the rest see
    `coda_jax.attribution.protocol`.

    Args:
        inputs: [N, H, W, C]. The superpixels are those of the first three channels as red, green and blue; with fewer
            than three, of the first as grey.
        key: the key of the on/off vectors, which are the same for all examples with as many superpixels.
        segments: the number of superpixels, about; there are fewer where an input has much detail.
        compactness: how much the superpixels are like squares, as in `skimage.segmentation.slic`.
        ridge: the factor of the squared norm of the coefficients in what the regression minimises.
        fill: what a hidden superpixel is replaced by, a number or an array that broadcasts to [H, W, C].
    """
    need("pictures", "skimage", "sklearn")
    from sklearn.linear_model import Ridge  # Slow to import.

    for name, value in (("segments", segments), ("samples", samples), ("copies_at_once", copies_at_once)):
        check_whole(name, value)
    for name, value in (("compactness", compactness), ("ridge", ridge), ("kernel_width", kernel_width)):
        check_number(name, value, above=0)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((logits_fn, inputs, targets, key))):
        raise InputError("lime computes on the host, so call it outside of jax.jit, jax.vmap and the like")
    check_key("key", key)
    logits_fn, inputs, pairs = check_arguments(logits_fn, inputs, targets, copies_at_once)
    fill = check_baseline("fill", fill, inputs)

    attributions = np.empty((*pairs.shape, *inputs.shape[1:]), inputs.dtype)
    for example, (image, classes) in enumerate(zip(inputs, np.asarray(pairs), strict=True)):
        superpixels = find_superpixels(np.asarray(image), segments, compactness)
        pixels = np.bincount(superpixels.ravel())
        on = draw_on(key, samples, len(pixels))
        perturbed_fn = Partial(_perturbed_logits, logits_fn, image, fill)
        logits = np.asarray(compute_logits(perturbed_fn, on[:, superpixels], copies_at_once))[:, classes]
        distances = 1 - np.sqrt(on.mean(1))
        weights = np.exp(-((distances / kernel_width) ** 2))
        model = Ridge(alpha=ridge).fit(on.astype(float), logits.astype(float), weights)
        coefficients = np.atleast_2d(model.coef_)  # scikit-learn drops the first axis of [1, superpixels].
        attributions[example] = (coefficients / pixels / image.shape[-1])[:, superpixels, None]
    return jnp.asarray(attributions)


def find_superpixels(image: np.ndarray, segments: int, compactness: float) -> np.ndarray:
    """The superpixel of every pixel, whole numbers from 0 [H, W]; the arguments are as for `lime`, for one input."""
    from skimage.segmentation import slic  # Slow to import.

    colours = image[..., :3] if image.shape[-1] >= 3 else image[..., [0, 0, 0]]
    return slic(colours.astype(float), segments, compactness, start_label=0)


def draw_on(key: jax.Array, samples: int, superpixels: int) -> np.ndarray:
    """Which superpixels each sample shows, bool [samples, superpixels]; the first shows all."""
    # NumPy's generator, as JAX's would be compiled anew for every number of superpixels.
    seed = np.asarray(jax.random.bits(key, (4,), jnp.uint32))
    on = np.random.default_rng(seed).random((samples, superpixels)) < 0.5
    on[0] = True
    return on


def _perturbed_logits(logits_fn: LogitsFn, image: jax.Array, fill: jax.Array, shown: jax.Array) -> jax.Array:
    """The logits [n, K] of an image [H, W, C] of which only the pixels shown are left, bool [n, H, W]."""
    return logits_fn(jnp.where(shown[..., None], image, fill))
