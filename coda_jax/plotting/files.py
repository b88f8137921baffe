"""The files of a figure."""

from pathlib import Path

from matplotlib.figure import Figure


def save(figure: Figure, path: Path) -> None:
    """Write the figure beside `path`, a name without suffix, as PNG and as SVG."""
    figure.savefig(path.with_name(f"{path.name}.png"), dpi=150)
    figure.savefig(path.with_name(f"{path.name}.svg"))
