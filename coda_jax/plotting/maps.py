"""Pictures of images and of what their pixels contribute."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib import colormaps, pyplot
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageDraw, ImageFont

from coda_jax.contributions import terms
from coda_jax.errors import InputError, one_line
from coda_jax.errors.checks import check_whole

COLOUR_MAP = "RdBu_r"
"""Diverging and safe for the colour-blind: red speaks for the class, blue against it, white is zero."""

_OVERLAID = [colormaps[COLOUR_MAP](place)[:3] for place in (47, 127, 208)]  # The middle one is for the scale alone.
_LEAST_SIDE, _CAPTION, _GAP = 256, 28, 8  # Of a frame: the panels' side, the caption's height, what is between two.


def contribution_scale(maps: np.ndarray) -> float:
    """The contribution shown in full colour: the 99.75th percentile of the absolute values, which spares outliers."""
    return max(float(np.percentile(np.abs(maps), 99.75)), np.finfo(np.float32).tiny)


def colour_table() -> np.ndarray:
    """The colours of `COLOUR_MAP`, from the most negative contribution to the most positive: uint8 [256, RGB=3]."""
    return colormaps[COLOUR_MAP](np.arange(256), bytes=True)[:, :3]


def plot_map(contributions: np.ndarray, ax: Axes | None = None, scale: float | None = None) -> AxesImage:
    """Draw a contribution map: what speaks for the class in red, what speaks against it in blue.

    The map is [H, W], of any real dtype; another shape raises InputError. `ax` None makes a figure with new axes, which
    a notebook shows. `scale` is the contribution that is drawn in full colour, by default `contribution_scale` of the
    map. Returns the picture, which has `.axes` and `.figure`, and which `figure.colorbar` takes.

    Examples:
        >>> picture = plot_map(np.array([[1.0, -2.0]]), Figure().subplots(), scale=2.0)
        >>> picture.get_clim()
        (-2.0, 2.0)
    """
    if np.ndim(contributions) != 2:
        raise InputError(f"contributions must be one map [H, W], not of shape {np.shape(contributions)}")
    if ax is None:
        _, ax = pyplot.subplots(layout="constrained")
    scale = contribution_scale(contributions) if scale is None else scale
    ax.set_axis_off()
    return ax.imshow(contributions, cmap=COLOUR_MAP, vmin=-scale, vmax=scale)


def overlay(image: np.ndarray, contributions: np.ndarray, scale: float, opacity: float = 1.0) -> np.ndarray:
    """A contribution map over its image, which turns grey and pale so that the map's colours stay apart from its own.

    The image is uint8 [H, W, RGB=3], the map [H, W]. Contributions of `scale` and more are opaque, zeros transparent.
    An `opacity` of 0 leaves the image as it is. Returns uint8 [H, W, RGB=3].

    Examples:
        >>> print(overlay(np.full((1, 3, 3), 100, np.uint8), np.array([[-2.0, 0.0, 1.0]]), scale=2.0))
        [[[ 62 140 191]
          [170 170 170]
          [189 127 121]]]
    """
    blue, _, red = _OVERLAID
    grey = 130 + 0.4 * (image @ (0.299, 0.587, 0.114))[..., None]
    strength = opacity * np.minimum(np.abs(contributions) / scale, 1)[..., None]
    under = (1 - opacity) * image + opacity * grey
    colours = 255 * np.where(contributions[..., None] > 0, red, blue)
    return ((1 - strength) * under + strength * colours).round().astype(np.uint8)


def colour_explanation(
    inputs: np.ndarray, weights: np.ndarray, smoothing: int | None = None, percentile: float = 99.5
) -> np.ndarray:
    """What a class looks for in an image, in its own colours (Böhle, Fritz, Schiele, CVPR 2022, arXiv 2205.10268).

    A pixel's colour is, for red, green and blue each, the colour's share of the positive weights of the colour and its
    inverse. Its opacity is the norm of its weights, or 0 where the pixel speaks against the class, averaged over
    squares; the `percentile` of these averages, and what lies above, is opaque.

    Args:
        inputs: the encoded image [H, W, 6].
        weights: [H, W, 6], the class's row of the network's matrix, as from `coda_jax.contributions.linear_weights`.
        smoothing: the side of the squares in pixels, odd; None for a fifteenth of the shorter side.
        percentile: from 0 to 100.

    Returns:
        Red, green, blue and opacity, float64 [H, W, 4] in [0, 1], for `imshow`. Other shapes, and a `smoothing` that is
        even or below 1 raise InputError.

    Examples:
        >>> inputs, weights = np.array([[[1, 0.5, 0, 0, 0.5, 1]]]), np.array([[[6, 1, -2, 2, 1, 0]]])
        >>> print(colour_explanation(inputs, weights))
        [[[0.75 0.5  0.   1.  ]]]
    """
    if np.ndim(inputs) != 3 or np.shape(inputs)[2] != 6 or np.shape(weights) != np.shape(inputs):
        raise InputError(f"inputs and weights must be [H, W, 6], not {np.shape(inputs)} and {np.shape(weights)}")
    side = max(1, min(np.shape(inputs)[:2]) // 30 * 2 + 1) if smoothing is None else smoothing
    check_whole("smoothing", side)
    if side % 2 == 0:
        raise InputError(f"smoothing must be odd, not {side}")
    weights = np.asarray(weights, np.float64)
    positive = np.maximum(weights, 0)
    pairs = positive[..., :3] + positive[..., 3:]
    colours = positive[..., :3] / np.maximum(pairs, np.finfo(np.float64).tiny)
    opacity = np.where(np.sum(weights * inputs, axis=-1) < 0, 0, np.linalg.norm(weights, axis=-1))
    opacity = sliding_window_view(np.pad(opacity, side // 2), (side, side)).mean((2, 3))
    opaque = max(float(np.percentile(opacity, percentile)), np.finfo(np.float64).tiny)
    return np.concatenate([colours, np.minimum(opacity / opaque, 1)[..., None]], axis=-1)


def contribution_sheet(
    path: Path,
    images: np.ndarray,
    maps: np.ndarray,
    targets: np.ndarray,
    probabilities: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    quantity: str = "contributions",
) -> None:
    """Write a picture of images beside their contribution maps of some classes, which are drawn over the images.

    The images are [N, H, W, 3] in [0, 1]; the maps [N, T, H, W], in logits; the `targets`, the classes that the maps
    explain with the predicted one first, and their probabilities [N, T]; the `labels`, the true classes, [N].
    `class_names` are those of all classes; `quantity` says what the maps are of, such as "Grad-CAM attributions". The
    maps of an image share a colour scale; one for all images would leave most of them pale. The suffix of the path says
    the format: PNG, JPEG, ...
    """
    count, panels = maps.shape[0], 1 + maps.shape[1]
    examples_a_row = min(3, count)
    rows = -(-count // examples_a_row)
    # An empty column sets an example's panels off from the next one's.
    columns = (panels + 1) * examples_a_row - 1
    widths = ([1] * panels + [0.12]) * examples_a_row
    figure = Figure(figsize=(1.5 * panels * examples_a_row + 1, 1.8 * rows + 1.2), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, width_ratios=widths[:columns])
    for axis in axes.flat:
        axis.set_axis_off()
    for index, (label, classes) in enumerate(zip(labels, targets, strict=True)):
        row, column = divmod(index, examples_a_row)
        own_axes = axes[row, (panels + 1) * column :][:panels]
        image = (255 * images[index]).round().astype(np.uint8)
        _draw_over(own_axes, image, maps[index], contribution_scale(maps[index]))
        titles = [
            f"{shown(called(class_names[i]))}: {p:.0%}" for i, p in zip(classes, probabilities[index], strict=True)
        ]
        titles.insert(0, f"true: {shown(class_names[label])}")
        for axis, title, right in zip(own_axes, titles, (False, *(classes == label)), strict=True):
            axis.set_title(title, fontsize=_title_size(title), weight="bold" if right else None)
    heading = f"Images, and {quantity} to the logits: red speaks for the class, blue against it (bold: the true class)"
    figure.suptitle(f"{heading}\n", fontsize=11)
    figure.savefig(path, dpi=150)


def _title_size(title: str) -> float:
    """The font size with which a title stays over its own panel of 1.5 inches."""
    return min(9, 160 / len(title))


def draw_explanation(
    figure: Figure | SubFigure,
    image: np.ndarray,
    maps: np.ndarray,
    names: Sequence[str],
    logits: np.ndarray,
    offset: float,
    quantity: str = "contributions",
    pictures: Sequence[np.ndarray] = (),
    overlaid: bool = False,
    note: str = "",
) -> None:
    """Draw one image as `contribution_sheet` draws several, and how its contributions sum to its logits.

    `figure` is a figure or a part of one. The image is uint8 [H, W, 3]. The maps are [T, H, W], in logits, of T classes
    with `names` and logits [T]. `offset` is the logit bias, which the contributions leave out. `quantity` is as there.
    The maps are drawn beside the image, or over it where they are `overlaid`, or give place to `pictures`, T of
    [H, W, 4] as from `colour_explanation`. A `note` stands above all.
    """
    axes, scale, drawn = figure.subplots(1, 1 + len(maps)), contribution_scale(maps), None
    if overlaid:
        _draw_over(axes, image, maps, scale)
        drawn = ScalarMappable(Normalize(-scale, scale), LinearSegmentedColormap.from_list("overlay", _OVERLAID))
    elif len(pictures):
        _draw_pictures(axes, [image, *pictures])
    else:
        drawn = _draw_beside(axes, image, maps, scale)
    if drawn:
        _add_colour_bar(figure, drawn, quantity, fraction=0.04, aspect=50)
    axes[0].set_title("what the network sees", fontsize=10)
    for axis, contributions, name, logit in zip(axes[1:], maps, names, logits, strict=True):
        axis.set_title(
            f"{shown(called(name))}: {1 / (1 + np.exp(-logit)):.1%}\n{terms(contributions, offset)}", fontsize=10
        )
    sums = "what speaks for the class − what speaks against it, and the bias = its logit"
    figure.suptitle(f"{fill(note, 26 * len(axes))}\n{sums}".lstrip(), fontsize=10)


def _draw_over(axes: np.ndarray, image: np.ndarray, maps: np.ndarray, scale: float) -> None:
    """Draw an image, uint8, and its maps over it, each into axes of its own."""
    _draw_pictures(axes, [image, *(overlay(image, contributions, scale) for contributions in maps)])


def _draw_pictures(axes: np.ndarray, pictures: Sequence[np.ndarray]) -> None:
    for axis, picture in zip(axes, pictures, strict=True):
        axis.set_axis_off()
        axis.imshow(picture)


def _draw_beside(axes: np.ndarray, image: np.ndarray, maps: np.ndarray, scale: float) -> AxesImage:
    """Draw an image and its maps, each into axes of its own; returns the picture of the last map."""
    axes[0].set_axis_off()
    axes[0].imshow(image)
    return [plot_map(contributions, axis, scale) for axis, contributions in zip(axes[1:], maps, strict=True)][-1]


def _add_colour_bar(figure: Figure | SubFigure, drawn: ScalarMappable, quantity: str, **size: float) -> None:
    """Add a colour bar of this size, relative to the figure, under all of it."""
    label = f"{quantity} to the logit"
    bar = figure.colorbar(drawn, ax=figure.axes, location="bottom", label=label, extend="both", **size)
    bar.locator = MaxNLocator(4)


def explained_frame(
    image: np.ndarray, maps: np.ndarray, captions: Sequence[str], scale: float, overlaid: bool = False
) -> np.ndarray:
    """One frame, uint8 [H, W, 3], beside its contribution maps [T, H, W], in logits, and their T captions.

    The maps are drawn over the frame, in grey, where they are `overlaid`.

    `scale` is the contribution that is drawn in full colour; one for all frames makes colours mean the same in each.
    Returns uint8 [h, w, 3] with even h and w. Each pixel becomes a square, so that the image has at least 256 a side.
    """
    if overlaid:
        colours = [overlay(image, contributions, scale) for contributions in maps]
    else:
        colours = colormaps[COLOUR_MAP](maps / (2 * scale) + 0.5, bytes=True)[..., :3]
    zoom = max(1, -(-_LEAST_SIDE // min(image.shape[:2])))
    panels = [panel.repeat(zoom, 0).repeat(zoom, 1) for panel in (image, *colours)]
    height, width, _ = panels[0].shape
    shape = (len(panels) * (width + _GAP) - _GAP, height + _CAPTION)
    canvas = Image.new("RGB", tuple(side + side % 2 for side in shape), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(16)
    for index, (panel, caption) in enumerate(zip(panels, ("", *captions), strict=True)):
        left = index * (width + _GAP)
        canvas.paste(Image.fromarray(panel), (left, _CAPTION))
        draw.text((left + 4, 4), one_line(caption), fill="black", font=font)
    return np.asarray(canvas)


def called(name: str) -> str:
    """A class's name, after the word "class" where it has no letter, as "3: 0%" would not say what is a class.

    Examples:
        >>> called("3"), called("cat"), called("7up")
        ('class 3', 'cat', '7up')
    """
    return name if any(character.isalpha() for character in name) else f"class {name}"


def shortened(name: str, longest: int) -> str:
    """A name on one line, of at most `longest` characters."""
    line = one_line(name)
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def shown(name: str) -> str:
    """A name as text for matplotlib, which draws it letter by letter: on one line, of at most 32 characters.

    Matplotlib would set what stands between two dollar signs as mathematics, and fail where it is none.
    """
    return shortened(name, 32).replace("$", r"\$")
