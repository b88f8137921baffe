"""Plots of what was measured of networks, and of their maps.

Every function takes the path of its figure without suffix, and saves it as PNG and as SVG.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from coda_jax.plotting.maps import plot_map, shown

# Okabe and Ito's colours, which the colour-blind can tell apart; the network's own contributions come first, in black.
_COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#999999")
_DASHES = ("-", "--", ":")


def localisation_boxes(path: Path, scores: Mapping[str, np.ndarray], cells: int) -> None:
    """Draw the localisation scores of every method as a box, between what an oracle and a uniform map would reach.

    The scores of a method are [G, n], where n is `cells`, the number of images in a grid.
    """
    figure, axis = _figure(2.2 + 0.7 * len(scores), 4.8)
    _boxes(axis, list(scores.values()), list(scores), cells)
    axis.tick_params(axis="x", rotation=40)
    for label in axis.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")
    _save(figure, path)


def localisation_by_temperature(
    path: Path, temperatures: Sequence[float], scores: Sequence[np.ndarray], cells: int
) -> None:
    """Draw the localisation scores of one method as a box for each temperature; arguments as `localisation_boxes`."""
    figure, axis = _figure(2.6 + 0.7 * len(scores), 3.8)
    _boxes(axis, scores, [f"{temperature:g}" for temperature in temperatures], cells)
    axis.set_xlabel("temperature T")
    _save(figure, path)


def _boxes(axis: Axes, scores: Sequence[np.ndarray], labels: Sequence[str], cells: int) -> None:
    """Boxes from the 25th to the 75th percentile, whiskers from the 5th to the 95th, the mean as a diamond."""
    axis.boxplot(
        [np.ravel(values) for values in scores],
        tick_labels=labels,
        whis=(5, 95),
        showfliers=False,
        showmeans=True,
        meanprops={"marker": "D", "markerfacecolor": _COLOURS[5], "markeredgecolor": _COLOURS[5], "markersize": 4},
        medianprops={"color": _COLOURS[4], "linewidth": 2},
    )
    axis.axhline(1, color=_COLOURS[3], linestyle="--", linewidth=1, label="oracle")
    axis.axhline(1 / cells, color=_COLOURS[7], linestyle=":", linewidth=1.5, label=f"uniform (1/{cells})")
    axis.set(ylim=(0, 1.04), ylabel="localisation: share of the positive\nattribution in the right cell")
    axis.grid(axis="y", alpha=0.3)
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8, frameon=False)


def removal_curves(path: Path, curves: Mapping[str, Mapping[str, Sequence[float]]], fraction: float) -> None:
    """Draw the mean probability of the true class against the share of the pixels that have been removed.

    `curves` has, for the orders "least" and "most" important first, the mean curve [points + 1] of every method, at
    whose end `fraction` of the pixels is removed.
    """
    figure = Figure(figsize=(4.6 * len(curves) + 1.7, 3.8), layout="constrained")
    for axis, (order, of_order) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        _lines(axis, {method: (np.linspace(0, fraction, len(curve)), curve) for method, curve in of_order.items()})
        axis.set(xlabel="pixels removed", title=f"{order} important first", ylim=(0, 1))
        axis.set_ylabel("mean probability of the true class")
        axis.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    _legend(axis)
    _save(figure, path)


def similarity_curves(path: Path, layers: Sequence[str], similarities: Mapping[str, Sequence[float]]) -> None:
    """Draw how alike the maps stay as the layers, in this order, get random parameters.

    The similarities of a method are the mean rank correlations [layers].
    """
    figure, axis = _figure(7.5, 3.8)
    places = range(len(layers) + 1)
    _lines(axis, {method: (places, [1, *values]) for method, values in similarities.items()}, marker="o", markersize=3)
    axis.set_xticks(places, ["trained", *layers], fontsize=8, rotation=20)
    axis.set(xlabel="randomised down to this layer", ylabel="rank correlation with\nthe trained network's maps")
    axis.axhline(0, color=_COLOURS[7], linewidth=1)
    _legend(axis)
    _save(figure, path)


def localisation_by_logit(
    path: Path, temperatures: Sequence[float], logits: Sequence[np.ndarray], scores: Sequence[np.ndarray], cells: int
) -> None:
    """Draw the mean localisation score against the logit of the image, a line for each temperature.

    `logits` and `scores` are [G, n] for each network: of every image of the grids, alone, for its own class, and of its
    map in the grid; n is `cells`.
    """
    figure, axis = _figure(6.8, 3.8)
    means = [_means_by_unit(*map(np.ravel, of_network)) for of_network in zip(logits, scores, strict=True)]
    lines = {f"T = {temperature:g}": points for temperature, points in zip(temperatures, means, strict=True)}
    _lines(axis, lines, first=1, marker="o", markersize=4)  # None stands out.
    axis.axhline(1 / cells, color="0.6", linestyle=":", label=f"uniform (1/{cells})")
    axis.set(xlabel="logit of the image alone, means over one unit", ylabel="mean localisation", ylim=(0, 1))
    _legend(axis)
    _save(figure, path)


def _means_by_unit(positions: np.ndarray, values: np.ndarray) -> tuple[list[float], list[float]]:
    """The middles of intervals of length 1, and the mean values in them; where there are fewer than 10, none."""
    units = np.floor(positions).astype(int)
    kept = [unit for unit in np.unique(units) if np.sum(units == unit) >= 10]
    return [unit + 0.5 for unit in kept], [float(values[units == unit].mean()) for unit in kept]


def metric_by_temperature(
    path: Path, temperatures: Sequence[float], values: Mapping[str, Sequence[float]], name: str
) -> None:
    """Draw a number with this name against the temperature: of every method one value a network."""
    figure, axis = _figure(6.8, 3.8)
    _lines(axis, {method: (temperatures, numbers) for method, numbers in values.items()}, marker="o", markersize=4)
    axis.set_xscale("log")
    axis.set_xticks(temperatures, [f"{temperature:g}" for temperature in temperatures])
    axis.minorticks_off()
    axis.set(xlabel="temperature T", ylabel=name, ylim=(0, 1))
    _legend(axis)
    _save(figure, path)


def metrics_by_network(path: Path, names: Sequence[str], values: Mapping[str, Sequence[float]]) -> None:
    """Draw numbers between 0 and 1 of networks with these names side by side: a line for each number."""
    figure, axis = _figure(1.2 + 1.6 * len(names), 4.2)
    _lines(axis, {name: (range(len(names)), numbers) for name, numbers in values.items()}, marker="o", markersize=4)
    axis.set_xticks(range(len(names)), [textwrap.fill(name, 18) for name in names], fontsize=8)
    axis.set(xlim=(-0.5, len(names) - 0.5), ylim=(0, 1))
    figure.legend(loc="outside upper left", fontsize=8, frameon=False)
    _save(figure, path)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _lines(
    axis: Axes, lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], first: int = 0, **markers: Any
) -> None:
    """Draw lines (x, y) in the styles from the number `first` on."""
    for (label, points), style in zip(lines.items(), _styles(first + len(lines))[first:], strict=True):
        axis.plot(*points, label=label, **markers, **style)
    axis.grid(alpha=0.3)


def _legend(axis: Axes) -> None:
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False)


def _styles(count: int) -> list[dict[str, object]]:
    """Colour, dashes and width of so many lines; the first stands out."""
    return [
        {
            "color": _COLOURS[index % len(_COLOURS)],
            "linestyle": _DASHES[index // len(_COLOURS)],
            "linewidth": 1.5 if index else 2.5,
        }
        for index in range(count)
    ]


def attribution_sheet(path: Path, images: np.ndarray, maps: Mapping[str, np.ndarray], names: Sequence[str]) -> None:
    """Draw images [N, H, W, 3] in [0, 1], a row each, beside the maps [N, H, W] by several methods.

    The maps are of the true classes, whose names are given. Every map has a colour scale of its own, centred on zero,
    as the methods' units differ.
    """
    count = len(images)
    figure = Figure(figsize=(max(4.5, 1.35 * (1 + len(maps)) + 0.3), 1.45 * count + 0.9), layout="constrained")
    axes = figure.subplots(count, 1 + len(maps), squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for axis, image, name in zip(axes[:, 0], images, names, strict=True):
        axis.imshow(image)
        axis.set_ylabel(shown(name), fontsize=9)
    for column, (method, of_method) in zip(axes[:, 1:].T, maps.items(), strict=True):
        lines = [wrapped for line in method.split("\n") for wrapped in textwrap.wrap(line, 24)]
        # So that it stays over its own column.
        column[0].set_title("\n".join(lines), fontsize=min(9, 170 / max(map(len, lines))))
        for axis, attributions in zip(column, of_method, strict=True):
            plot_map(attributions, axis)
    figure.suptitle(
        "Attributions to the true class\nred for, blue against; each map in a scale of its own", fontsize=10
    )
    _save(figure, path)


def layer_sheet(
    path: Path,
    image: np.ndarray,
    maps: Sequence[np.ndarray],
    names: Sequence[str],
    class_name: str,
    logit: float,
    offset: float,
) -> None:
    """Draw one image, and what every position of every layer's input contributes to one logit.

    Args:
        path: see the module.
        image: [H, W, 3] in [0, 1].
        maps: for every layer the contribution map in the space of its input, [Hl, Wl].
        names: what the layers' inputs are called.
        class_name: the class of the logit.
        logit: the number that is explained.
        offset: the logit bias, which the contributions leave out.
    """
    figure = Figure(figsize=(1.75 * (1 + len(maps)), 2.7), layout="constrained")
    axes = figure.subplots(1, 1 + len(maps))
    for axis in axes:
        axis.set_axis_off()
    axes[0].imshow(image)
    axes[0].set_title("image", fontsize=9)
    for axis, contributions, name in zip(axes[1:], maps, names, strict=True):
        plot_map(contributions, axis)
        height, width = contributions.shape
        axis.set_title(f"{name}, {height}×{width}\nsum {contributions.sum():.3f}", fontsize=9)
    figure.suptitle(
        f"Contributions to “{shown(class_name)}”, logit {logit:.3f}\n"
        f"each sum, with the bias {offset:.3f}, is the logit; scales differ",
        fontsize=10,
    )
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """Write the figure beside `path`, a name without suffix, as PNG and as SVG."""
    figure.savefig(path.with_name(f"{path.name}.png"), dpi=150)
    figure.savefig(path.with_name(f"{path.name}.svg"))
