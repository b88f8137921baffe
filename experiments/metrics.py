"""The metrics that explanations are measured by, and how what was found is shown."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from coda_jax.metrics.mosaics import difull, dipart
from coda_jax.metrics.pixel_removal import ORDERS
from experiments import plots
from experiments.measurements import (
    FRACTION,
    Measurement,
    Run,
    checkerboard,
    completeness,
    localisation,
    localisation_of_layers,
    mosaics,
    pixel_removal,
    randomisation,
)


def _draw_localisation(path: Path, results: Mapping[str, Any]) -> None:
    scores = {label: np.array(of_method["scores"]) for label, of_method in results.items()}
    plots.localisation_boxes(path, scores, cells=next(iter(scores.values())).shape[1])


def _draw_removal(path: Path, results: Mapping[str, Any]) -> None:
    curves = {order: {label: found[order]["curve"] for label, found in results.items()} for order in ORDERS}
    plots.removal_curves(path, curves, FRACTION)


def _draw_randomisation(path: Path, results: Mapping[str, Any]) -> None:
    layers = [found["layers"] for found in results.values()]
    if all(other == layers[0] for other in layers):  # Networks of different layers have no axis in common.
        plots.similarity_curves(path, layers[0], {label: found["rank_correlation"] for label, found in results.items()})


class Metric(NamedTuple):
    """A metric: how it is taken, and how what was found is shown.

    Attributes:
        prepare: from a run and the flags `--grids` and `--images` to the measurement.
        columns: see `coda_jax.report.measured`.
        caption: what the report says below the figure; empty where it shows none.
        draw: draws the figure, from its path without suffix and the results by method; None where there is none.
        default: whether it is taken where no metrics are named.
    """

    prepare: Callable[[Run, int | None, int], Measurement]
    columns: dict[str, list[str | int]]
    caption: str = ""
    draw: Callable[[Path, Mapping[str, Any]], None] | None = None
    default: bool = True


METRICS = {
    "localisation_3x3": Metric(
        lambda run, grids, images: localisation(run, 3, grids),
        {"localisation 3×3, mean": ["mean"], "median": ["median"]},
        "Localisation on grids of 3×3 test images of distinct classes: the share of a class's positive attribution "
        "that falls on its own image. 1 is perfect, 1/9 is chance.",
        _draw_localisation,
    ),
    "localisation_2x2": Metric(
        lambda run, grids, images: localisation(run, 2, grids),
        {"localisation 2×2, mean": ["mean"]},
        "Localisation on grids of 2×2 test images. 1 is perfect, 1/4 is chance.",
        _draw_localisation,
        default=False,
    ),
    "pixel_removal": Metric(
        lambda run, grids, images: pixel_removal(run, images),
        {
            "p(true), whole image": ["least", "curve", 0],
            "5% least important removed": ["least", "after_5_percent"],
            "25% least": ["least", "after_25_percent"],
            "5% most": ["most", "after_5_percent"],
            "25% most": ["most", "after_25_percent"],
        },
        "Pixels are removed, the least or the most important first. With a good explanation the probability of the "
        "true class stays high on the left, and falls quickly on the right.",
        _draw_removal,
    ),
    "completeness": Metric(lambda run, grids, images: completeness(run), {"completeness residual, median": ["median"]}),
    "randomisation": Metric(
        lambda run, grids, images: randomisation(run),
        {"rank correlation, all layers randomised": ["rank_correlation", -1]},
        draw=_draw_randomisation,
    ),
    "checkerboard": Metric(
        lambda run, grids, images: checkerboard(run),
        {"energy at the strides' frequencies, median": ["median"]},
        default=False,
    ),
    "difull": Metric(
        lambda run, grids, images: mosaics(run, 3, grids, difull),
        {"DiFull 3×3, mean": ["mean"]},
        "Localisation on grids of 3×3 test images, each of which is classified by itself. What is attributed to "
        "another image than the class's own is wrong. 1 is perfect, 1/9 is chance.",
        _draw_localisation,
        default=False,
    ),
    "dipart": Metric(
        lambda run, grids, images: mosaics(run, 3, grids, dipart),
        {"DiPart 3×3, mean": ["mean"]},
        "Localisation on grids of 3×3 test images that come together only in the sum or the mean over positions. "
        "1/9 is chance.",
        _draw_localisation,
        default=False,
    ),
    "localisation_layers": Metric(
        lambda run, grids, images: localisation_of_layers(run, 3, grids),
        {"localisation 3×3 at the middle layer, mean": ["middle"], "at the last layer": ["mean", -1]},
        default=False,
    ),
}
"""All metrics by the name that asks for them. A score of single images is one entry more, with `of_images`."""
