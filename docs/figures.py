"""The figures of docs/how-it-works.md, and the numbers beside them, from networks trained on CIFAR-10.

    python docs/figures.py RUN-10 RUN-100 RUN-1000 RUN-10000 [--data_dir=DIR]

The runs differ in their temperature, in rising order; the figure of input×gradient is of the one with T = 1000. Figures
are left in docs/images.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.tree_util import Partial
from matplotlib import pyplot

from coda_jax import add_inverse, data, load
from coda_jax.attribution.input_x_gradient import input_x_gradient
from coda_jax.contributions import contribution_map, contributions, linear_weights
from coda_jax.plotting.maps import plot_map

IMAGES = 1024
SHOWN = 3
TEMPERATURE = 1000
OUT = Path(__file__).parent / "images"


class Explained(NamedTuple):
    """What one network says of the test images' predicted classes.

    Attributes:
        temperature: T.
        sums: [N], the logits without their bias.
        cosines: [N], of the angle between the class's row of W(x) and x.
        contributions: [N, H, W], the contribution maps.
        input_x_gradient: [N, H, W], the maps of input×gradient.
    """

    temperature: float
    sums: np.ndarray
    cosines: np.ndarray
    contributions: np.ndarray
    input_x_gradient: np.ndarray


def explain(workdir: str, inputs: jax.Array) -> Explained:
    """Explain the predicted classes by the network of a run."""
    model, variables, _ = load(workdir)
    logits = np.asarray(jax.jit(model.apply)(variables, inputs))
    targets = logits.argmax(axis=1)
    sums = logits.max(axis=1) - model.logit_bias
    rows = linear_weights(model, variables, inputs, targets, chunk_size=64)
    gradients = input_x_gradient(Partial(model.apply, variables), inputs, targets[:, None])
    return Explained(
        model.temperature,
        sums,
        sums / (_norms(rows) * _norms(inputs)),
        np.asarray(contribution_map(contributions(model, variables, inputs, targets, chunk_size=64)))[:, 0],
        np.asarray(contribution_map(gradients))[:, 0],
    )


def draw_alignment(runs: list[Explained]) -> None:
    """What rescaling does to a weight's norm, and how aligned whole networks are, by their temperature."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    before = np.linspace(0, 6, 200)
    left.plot(before, before**2 / (1 + before**2), label="SQ")
    left.plot(before, np.ones_like(before), label="L2", linestyle="--")
    left.set(xlabel="norm before rescaling, ‖v‖", ylabel="norm after it, ‖w‖", ylim=(0, 1.1))
    left.legend(loc="lower right")
    labels = [f"{run.temperature:g}" for run in runs]
    right.boxplot([run.cosines for run in runs], tick_labels=labels, whis=(5, 95), showfliers=False)
    right.set(xlabel="temperature T", ylabel="cosine between image and row of W(x)", ylim=(0, 1))
    figure.savefig(OUT / "how-alignment.png", dpi=120)


def draw_gradient(run: Explained, images: np.ndarray) -> None:
    """The sums of contributions and of input×gradient against the logits, and some images' maps of both."""
    figure = pyplot.figure(figsize=(9, 3.9), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1))
    axis = left.subplots()
    for maps, name, marker in (
        (run.input_x_gradient, "input×gradient", "."),
        (run.contributions, "contributions", "x"),
    ):
        axis.scatter(run.sums, maps.sum((1, 2)), s=12, marker=marker, linewidths=0.7, label=name)
    limits = np.percentile(run.input_x_gradient.sum((1, 2)), [0.5, 99.5])
    axis.set(xlabel="logit without its bias", ylabel="sum of the map", ylim=limits)
    axis.legend(loc="upper left")
    axes = right.subplots(SHOWN, 3)
    for row, image, *maps in zip(axes, images, run.contributions, run.input_x_gradient, strict=False):
        row[0].imshow(image)
        for axis, of_method in zip(row[1:], maps, strict=True):
            plot_map(of_method, axis)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, title in zip(axes[0], ("image", "contributions", "input×gradient"), strict=True):
        axis.set_title(title, fontsize=9)
    figure.savefig(OUT / "how-gradient.png", dpi=120)


def tell(run: Explained) -> None:
    """Print the numbers of one network."""
    percentiles = np.percentile(run.cosines, [5, 50, 95])
    print(f"T = {run.temperature:g}: cosine, 5th, 50th, 95th percentile {percentiles.round(2)}")
    for name, maps in (("contributions", run.contributions), ("input×gradient", run.input_x_gradient)):
        missed = np.abs(maps.sum((1, 2)) / run.sums - 1)
        print(
            f"  {name}: sum misses the logit by {np.median(missed):.2g} (median), {np.percentile(missed, 95):.2g} (95%)"
        )
    ratio = np.median(_norms(run.input_x_gradient) / _norms(run.contributions))
    pairs = zip(run.contributions, run.input_x_gradient, strict=True)
    correlation = np.median([np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in pairs])
    print(f"  input×gradient's maps have {ratio:.1f} times the norm; correlation {correlation:.2f}")


def _norms(arrays: jax.Array | np.ndarray) -> np.ndarray:
    """Of each array along the first axis: [N, ...] -> [N]."""
    return np.linalg.norm(np.asarray(arrays).reshape(len(arrays), -1), axis=1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--data_dir")
    arguments = parser.parse_args()
    images = next(data.test_batches(data.load("cifar10", arguments.data_dir).test, batch_size=IMAGES))["image"]
    runs = [explain(workdir, add_inverse(images)) for workdir in arguments.runs]
    for run in runs:
        tell(run)
    draw_alignment(runs)
    draw_gradient(next(run for run in runs if run.temperature == TEMPERATURE), images)
