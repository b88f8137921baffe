"""Pictures of any kind explained in one call: classes, probabilities, contribution maps, and figures of them."""

import dataclasses
import io
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from PIL import Image

from coda_jax import contributions
from coda_jax.data.description import Preprocessing
from coda_jax.data.preprocessing import prepare, read_image
from coda_jax.errors import InputError, one_line
from coda_jax.errors.checks import Targets, as_array, check_choice, check_pixels, check_targets, check_whole, naming
from coda_jax.errors.files import replace_files
from coda_jax.interop.pretrained import Pretrained, load_explainable
from coda_jax.networks.coda_net import CoDANet
from coda_jax.networks.encoding import add_inverse
from coda_jax.networks.hybrid import HybridNet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES = ("overlay", "map", "colour")
"""The maps over the image in grey; the maps beside it; or what each class looks for, as
`coda_jax.plotting.maps.colour_explanation` draws it."""

UNRECOGNISED = "no class is above 50%: the network recognises none of its classes, or cannot tell similar ones apart"
"""What is said where the largest probability is no more than that: it is then the largest of nothing."""

_MOST_DRAWN = 100  # Maps: matplotlib draws no picture of more than 65,536 pixels a side.
_MOST_TOLD = 10


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ExplainedImages:
    """What a network says of N images, and how its logits came about; printed, it is what `coda-jax explain` prints.

    Attributes:
        network: what `coda_jax.load` returned.
        images: uint8 [N, H, W, RGB=3], what the network was given.
        sources: for each image its path, or "image 0" and so on.
        preprocessing: for each image what was done to it, such as "reduced from 480×480 to 32×32 pixels".
        logits: [N, K], float32 at least.
        targets: int [N, T], the classes that are explained.
        contributions: [N, T, H, W, 6], of a hybrid's features [N, T, Hf, Wf, Cf]; the sum over the last three axes is
            the target's `logit - logit_bias`.
    """

    network: Pretrained
    images: np.ndarray
    sources: tuple[str, ...]
    preprocessing: tuple[tuple[str, ...], ...]
    logits: np.ndarray
    targets: np.ndarray
    contributions: np.ndarray

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the K classes."""
        return self.network.info.class_names

    @property
    def logit_bias(self) -> float:
        """What every logit has besides its contributions."""
        return self.network.model.logit_bias

    @cached_property
    def probabilities(self) -> np.ndarray:
        """[N, K], the sigmoids of the logits: each class has a probability of its own, and they need not sum to 1."""
        return np.asarray(jax.nn.sigmoid(self.logits))

    @property
    def recognised(self) -> np.ndarray:
        """Bool [N]: whether any class has a probability above 50%; `UNRECOGNISED` says what it means if none has."""
        return recognised(self.logits)

    @cached_property
    def contribution_maps(self) -> np.ndarray:
        """[N, T, H, W], the contribution of every pixel; of a hybrid, that of its features, spread over the image."""
        maps = contributions.contribution_map(self.contributions)
        return np.asarray(contributions.upsampled_map(maps, self.images.shape[1:3]))

    def for_classes(self, targets: Targets, top: int = 1) -> "ExplainedImages":
        """The same images, explained for other classes; the arguments are those of `explain`."""
        return _explained(self.network, self.images, self.sources, self.preprocessing, targets, top)

    def describe(self, index: int) -> str:
        """What is to be said of an image: what was done to it, and the probabilities and logits of its targets."""
        done = "; ".join(self.preprocessing[index]) or "taken as it is"
        lines = [f"{one_line(self.sources[index])}: {done}"]
        if not self.recognised[index]:
            lines.append(f"  {UNRECOGNISED}")
        for target, contributed in zip(self.targets[index], self.contribution_maps[index], strict=True):
            name, sum_ = one_line(self.class_names[target]), contributions.terms(contributed, self.logit_bias)
            lines.append(f"  {self.probabilities[index, target]:6.1%}  {name}  logit {sum_}")
        return "\n".join(lines)

    def as_entries(self, index: int) -> dict[str, Any]:
        """What `describe` says, as entries of a JSON document."""
        classes = [
            {
                "name": self.class_names[target],
                "number": int(target),
                "probability": float(self.probabilities[index, target]),
                "logit": float(self.logits[index, target]),
                "positive": float(np.maximum(maps, 0).sum()),
                "negative": float(np.minimum(maps, 0).sum()),
            }
            for target, maps in zip(self.targets[index], self.contribution_maps[index], strict=True)
        ]
        return {
            "preprocessing": self.preprocessing[index],
            "recognised": bool(self.recognised[index]),
            "logit_bias": self.logit_bias,
            "classes": classes,
        }

    def __repr__(self) -> str:
        told = [self.describe(index) for index in range(min(len(self.images), _MOST_TOLD))]
        more = len(self.images) - len(told)
        return "\n".join([*told, f"and {more} more images"] if more else told)

    def show(self, style: str = "overlay") -> "Figure":
        """The images and the maps of their targets as a figure of matplotlib, which a notebook shows.

        More than 100 maps, a style that is none of `STYLES`, colours of a hybrid, and missing matplotlib raise
        InputError.
        """
        return self._drawn(style, in_notebook=True)

    def save(self, path: str | os.PathLike, style: str = "overlay") -> None:
        """Write the figure of `show` as `.png`, or the arrays as `.npz`, which `numpy.load` reads.

        The arrays are the images, logits, probabilities, targets, contributions and contribution_maps, with the
        class_names, the sources and what was done to the images, as texts, and the logit_bias. Other endings, and files
        that cannot be written raise InputError, besides what `show` refuses.
        """
        content, path = io.BytesIO(), Path(path)
        if path.suffix == ".npz":
            arrays = ("images", "logits", "probabilities", "targets", "contributions", "contribution_maps")
            texts = {
                "class_names": np.array(self.class_names),
                "sources": np.array(self.sources),
                "preprocessing": np.array(["; ".join(done) for done in self.preprocessing]),
            }
            of_images = {name: getattr(self, name) for name in arrays}
            np.savez_compressed(content, logit_bias=self.logit_bias, **of_images, **texts)
        elif path.suffix == ".png":
            self._drawn(style).savefig(content, format="png", dpi=150)
        else:
            raise InputError(f"the name of {path} must end with .png, for a picture, or .npz, for arrays")
        replace_files({path: content.getvalue()})

    def _drawn(self, style: str, in_notebook: bool = False) -> "Figure":
        from coda_jax.plotting.maps import Figure, draw_explanation, pyplot  # It needs an extra.

        check_style(style, self.network)
        count, classes = self.targets.shape
        if count * classes > _MOST_DRAWN:
            asked = f"{classes} of each of {count} images"
            raise InputError(f"at most {_MOST_DRAWN} maps can be drawn, not {asked}: explain fewer, or save as .npz")
        make = pyplot.figure if in_notebook else Figure  # The first has notebooks learn how to show figures.
        figure = make(figsize=(2.5 * (1 + classes) + 0.4, 4.4 * count), layout="constrained")
        pyplot.close(figure)
        parts = figure.subfigures(count, 1, squeeze=False)[:, 0]
        bias, quantity = self.logit_bias, self.network.model.quantity
        for index, (part, targets) in enumerate(zip(parts, self.targets, strict=True)):
            names, logits = [self.class_names[target] for target in targets], self.logits[index, targets]
            pictures = self._colours(index) if style == "colour" else ()
            maps = self.contribution_maps[index]
            overlaid, note = style == "overlay", "" if self.recognised[index] else UNRECOGNISED
            draw_explanation(part, self.images[index], maps, names, logits, bias, quantity, pictures, overlaid, note)
        return figure

    def _colours(self, index: int) -> list[np.ndarray]:
        """The pictures [H, W, 4] of the targets of an image."""
        from coda_jax.plotting.maps import colour_explanation

        model, variables, _ = self.network
        inputs = add_inverse(self.images[index : index + 1] / np.float32(255))
        rows = contributions.linear_weights(model, variables, inputs, self.targets[index : index + 1])
        return [colour_explanation(inputs[0], row) for row in np.asarray(rows[0])]


def explain(
    network: str | os.PathLike | Pretrained,
    images: Any,
    targets: Targets | Sequence = None,
    *,
    top: int = 1,
    size: int | None = None,
    chunk_size: int = 32,
) -> ExplainedImages:
    """What a network sees in pictures: classes with their probabilities, and what every pixel contributed to them.

    Args:
        network: a name or directory that `coda_jax.load` takes, or what it returned.
        images: one or a list of paths, images of Pillow, and arrays, uint8 or floating-point in [0, 1], of
            [H, W, RGB=3] or [N, H, W, RGB=3]. They may have any size: they are prepared as the network's training says.
        targets: as everywhere, None for the `top` most probable classes, the most probable one first, "all", or class
            numbers [N] or [N, T]; or names in the place of numbers; or one name, for all images.
        top: T where there are no targets.
        size: the side in pixels to which images are brought; None for that of the training. Larger images give finer
            maps. A CoDA-Net's logits, which are sums over positions, keep their scale: contributions are divided by the
            number of pixels in relation to the training's. Objects look larger to the network than in its training.
        chunk_size: the number of images that are explained at a time, which bounds the memory.

    Returns:
        The explanation. InputError is raised for a network that does not explain itself or does not say how its images
        are prepared, for images that cannot be read, and for classes that there are not.

    Examples:
        >>> explained = explain("digits", np.zeros((2, 20, 30, 3)), targets="all")
        >>> explained.contribution_maps.shape
        (2, 10, 8, 8)
        >>> sums = explained.contribution_maps.sum((2, 3)) + explained.logit_bias
        >>> bool(np.allclose(sums, explained.logits, atol=1e-4))
        True
        >>> explained.for_classes([["3", "7"]] * 2).targets.tolist()
        [[3, 7], [3, 7]]
    """
    network, scaled = _at_size(load_explainable(network), size)
    given = _one_by_one(images)
    if not given:
        raise InputError("images must be one image or more")
    prepared = [_prepared(image, network.info.preprocessing) for image in given]
    pixels, done = zip(*[(image, (*did, *scaled, *_caution(image))) for image, did in prepared], strict=True)
    paths = [os.fspath(image) if isinstance(image, str | os.PathLike) else None for image in given]
    sources = tuple(path or f"image {index}" for index, path in enumerate(paths))
    return _explained(network, np.stack(pixels), sources, done, targets, top, chunk_size)


def recognised(logits: np.ndarray) -> np.ndarray:
    """Bool [N], of logits [N, K]: whether any class has a probability, the logit's sigmoid, above 50%.

    Examples:
        >>> recognised(np.array([[-3.0, 0.1], [-3.0, 0.0]])).tolist()
        [True, False]
    """
    return logits.max(axis=-1) > 0


def class_numbers(targets: Any, class_names: Sequence[str]) -> Any:
    """Targets as numbers where they are names, and as they are where not; raises InputError for an unknown name."""
    with naming("targets"):
        names = np.asarray(targets)
    if names.dtype.kind != "U" or not names.ndim:
        return targets
    unknown = sorted(set(names.ravel().tolist()) - set(class_names))
    if unknown:
        known = ", ".join(map(one_line, class_names[:20])) + (", ..." if len(class_names) > 20 else "")
        raise InputError(f"there is no class {unknown[0]!r}: choose among {known}")
    return np.array([class_names.index(name) for name in names.ravel()]).reshape(names.shape)


def check_style(style: str, network: Pretrained) -> None:
    """Raise InputError unless explanations of the network can be drawn in this of the `STYLES`."""
    check_choice("style", style, STYLES)
    if style == "colour" and isinstance(network.model, HybridNet):
        raise InputError("a hybrid's weights are of features and have no colour: choose another style")


def _one_by_one(images: Any) -> list[Any]:
    """Paths and images of Pillow, of what `explain` is given."""
    if isinstance(images, list | tuple):
        return [image for some in images for image in _one_by_one(some)]
    if isinstance(images, str | os.PathLike | Image.Image):
        return [images]
    array = np.asarray(as_array("images", images))
    array = array / np.float32(255) if array.dtype == np.uint8 else array
    array = check_pixels("images", array[None] if array.ndim == 3 else array, channels=3)
    if 0 in array.shape[1:]:
        raise InputError(f"images must have pixels, but have shape {list(array.shape)}")
    return [Image.fromarray(pixels) for pixels in (np.float32(255) * array).round().astype(np.uint8)]


def _prepared(image: Any, preprocessing: Preprocessing) -> tuple[np.ndarray, tuple[str, ...]]:
    """What `prepare` returns."""
    if not isinstance(image, Image.Image):
        return read_image(image, preprocessing)
    try:
        image.load()  # `prepare` would load the caller's JPEG in a reduced size.
    except Exception as error:  # Whatever a damaged file makes of Pillow's decoders.
        raise InputError(f"the image is damaged ({one_line(error)})") from error
    return prepare(image, preprocessing)


def _at_size(network: Pretrained, size: int | None) -> tuple[Pretrained, tuple[str, ...]]:
    """The network for images of another size than those of its training, and a phrase that says what it divides by."""
    model, info = network.model, network.info
    trained = info.preprocessing
    if size is None or size == trained.size:
        return network, ()
    check_whole("size", size)
    shorter_side = round(trained.shorter_side * size / trained.size)
    info = info._replace(preprocessing=trained._replace(size=size, shorter_side=shorter_side))
    ratio, head = (size / trained.size) ** 2, model.head if isinstance(model, HybridNet) else model
    if not isinstance(head, CoDANet):  # A B-cos network's logits are means over positions.
        return network._replace(info=info), ()
    head = head.clone(temperature=head.temperature * ratio)
    model = model.clone(head=head) if isinstance(model, HybridNet) else head
    phrase = f"contributions divided by {ratio:.3g}, as the training's images had {trained.size}×{trained.size} pixels"
    return network._replace(model=model, info=info), (phrase,)


def _caution(image: np.ndarray) -> tuple[str, ...]:
    """What is to be said of an image without content, which a network may take for one of its classes all the same."""
    return () if (image != image[0, 0]).any() else ("all of one colour, so that there is nothing in it to recognise",)


def _explained(
    network: Pretrained,
    images: np.ndarray,
    sources: tuple[str, ...],
    done: tuple[tuple[str, ...], ...],
    targets: Any,
    top: int,
    chunk_size: int = 32,
) -> ExplainedImages:
    """The explanation of images as the network takes them, uint8 [N, H, W, 3]."""
    model, variables, info = network
    check_whole("chunk_size", chunk_size)
    if isinstance(targets, str) and targets != "all":
        targets = [targets] * len(images)
    if targets is not None:
        targets = check_targets(class_numbers(targets, info.class_names), len(images), len(info.class_names))
        targets = np.asarray(targets)
    inputs, parts = images / np.float32(255), []
    for start in range(0, len(images), chunk_size):
        chunk = np.arange(start, min(start + chunk_size, len(images)))
        # The next power of two, so that few sizes are compiled.
        filled = np.resize(chunk, min(chunk_size, 1 << (len(chunk) - 1).bit_length()))
        of_chunk = None if targets is None else targets[filled]
        part = contributions.explain(model, variables, add_inverse(inputs[filled]), of_chunk, top=top)
        parts.append([np.asarray(array)[: len(chunk)] for array in part])
    return ExplainedImages(network, images, sources, done, *map(np.concatenate, zip(*parts, strict=True)))
