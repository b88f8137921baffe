"""Curves of training."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from coda_jax.errors.checks import check_choice

_QUANTITIES = ("loss", "accuracy")


def learning_curves(path: Path, records: Sequence[dict[str, float]]) -> None:
    """Write a PNG file of the curves of loss and accuracy, of the records that `metrics_log.read_metrics` reads."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axis, quantity in zip(figure.subplots(1, 2), _QUANTITIES, strict=True):
        plot_learning_curve(records, quantity, axis)
    figure.savefig(path, dpi=150)


def plot_learning_curve(records: Sequence[dict[str, float]], quantity: str = "loss", ax: Axes | None = None) -> Axes:
    """Draw loss or accuracy, of training and test, against the epoch, of the records of `metrics_log.read_metrics`.

    Returns the axes; `ax` None makes a figure with new ones, which a notebook shows. Another `quantity` than "loss" or
    "accuracy" raises InputError.
    """
    check_choice("quantity", quantity, _QUANTITIES)
    if ax is None:
        _, ax = pyplot.subplots(layout="constrained")
    for name, label in ((quantity, "training"), (f"test_{quantity}", "test")):
        points = [(record["epoch"], record[name]) for record in records if name in record]
        ax.plot(*zip(*points, strict=True), label=label, marker="o" if label == "test" else None, markersize=4)
    ax.set(xlabel="epoch", ylabel="accuracy" if quantity == "accuracy" else "binary cross-entropy, nats")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if quantity == "accuracy":
        ax.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    ax.grid(alpha=0.3)
    ax.legend()
    return ax
