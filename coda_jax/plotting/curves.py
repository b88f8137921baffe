"""Curves of training."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter


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
