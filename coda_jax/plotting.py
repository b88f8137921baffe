"""Figures, as PNG files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

COLOUR_MAP = "RdBu_r"
"""Diverging and safe for the colour-blind: red speaks for the class, blue against it, white is zero."""


def contribution_scale(maps: np.ndarray) -> float:
    """The contribution shown in full colour: the 99.75th percentile of the absolute values, which spares outliers."""
    return max(float(np.percentile(np.abs(maps), 99.75)), np.finfo(np.float32).tiny)


def contribution_sheet(
    path: Path,
    images: np.ndarray,
    maps: np.ndarray,
    targets: np.ndarray,
    probabilities: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
) -> None:
    """Draw each image beside its contribution maps, all in one colour scale that is centred on zero.

    Args:
        path: of the PNG file.
        images: [N, H, W, 3] in [0, 1].
        maps: [N, T, H, W], the contribution map of each target, in logits.
        targets: [N, T], the classes that the maps explain, the predicted one first.
        probabilities: [N, T], of the targets.
        labels: [N], the true classes.
        class_names: of all classes.
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
    scale = contribution_scale(maps)
    for index in range(count):
        row, column = divmod(index, examples_a_row)
        image_axis, *map_axes = axes[row, (panels + 1) * column :][:panels]
        image_axis.imshow(images[index])
        image_axis.set_title(f"true: {class_names[labels[index]]}", fontsize=9)
        for axis, contributions, target, probability in zip(
            map_axes, maps[index], targets[index], probabilities[index], strict=True
        ):
            drawn = axis.imshow(contributions, cmap=COLOUR_MAP, vmin=-scale, vmax=scale)
            right = target == labels[index]
            axis.set_title(f"{class_names[target]} {probability:.0%}", fontsize=9, weight="bold" if right else None)
    figure.colorbar(
        drawn, ax=axes, location="bottom", fraction=0.03, aspect=60, label="contribution to the logit", extend="both"
    )
    figure.suptitle(
        "Image, contributions to the predicted class, and to the runner-up (bold: the true class)\n", fontsize=11
    )
    figure.savefig(path, dpi=150)


def learning_curves(path: Path, records: Sequence[dict[str, float]]) -> None:
    """Draw loss and accuracy, of training and test, against the epoch.

    Args:
        path: of the PNG file.
        records: as `metrics_log.read_metrics` reads them.
    """
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axis, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for name, label in ((quantity, "training"), (f"test_{quantity}", "test")):
            points = [(record["epoch"], record[name]) for record in records if name in record]
            axis.plot(*zip(*points, strict=True), label=label, marker="o" if label == "test" else None, markersize=4)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_ylabel(quantity if quantity == "accuracy" else "binary cross-entropy, nats")
        axis.grid(alpha=0.3)
        axis.legend()
    axis.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    figure.savefig(path, dpi=150)
