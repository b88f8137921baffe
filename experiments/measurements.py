"""The metrics as they are taken of a trained network, method by method."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from coda_jax import add_inverse, data, from_pretrained
from coda_jax.config_file import load_config
from coda_jax.contributions import contribution_map
from coda_jax.metrics.completeness import completeness_residual
from coda_jax.metrics.localisation import compose_grids, draw_grids, localisation_score
from coda_jax.metrics.pixel_removal import removal_curve
from coda_jax.metrics.randomisation import map_similarity, randomise_layers
from coda_jax.training.checkpoints import Checkpoints
from coda_jax.training.evaluation import classify
from coda_jax.training.run_directory import load_dataset
from experiments.methods import Method, Variables

SEED = 0
FRACTION = 0.25
_POINTS = 128
_COMPLETENESS_IMAGES = 128
_RANDOMISATION_IMAGES = 64
_RANDOMISATION_SEED = 1  # Training may have begun from 0.
_GRIDS_AT_ONCE = 10
_IMAGES_AT_ONCE = 64


class Run(NamedTuple):
    """A finished run.

    Attributes:
        workdir: its directory.
        config: its configuration.
        step: of the checkpoint.
        model: the network.
        variables: the network's.
        dataset: its data.
        logits: [N, K] of all test images.
        labels: [N] of all test images.
    """

    workdir: Path
    config: dict[str, Any]
    step: int
    model: nn.Module
    variables: Variables
    dataset: data.Dataset
    logits: np.ndarray
    labels: np.ndarray

    @property
    def name(self) -> str:
        """Of the network, as people write it."""
        return self.model.title

    @property
    def temperature(self) -> float:
        """T of a CoDA-Net, and infinity for other networks."""
        return getattr(self.model, "temperature", math.inf)

    @property
    def results(self) -> Path:
        """The directory of what is measured of it."""
        return self.workdir / "interpretability"

    def images(self, indices: np.ndarray) -> np.ndarray:
        """Test images [n, H, W, 3] in [0, 1]."""
        return np.stack([self.dataset.test[int(index)]["image"] for index in indices]) / np.float32(255)

    def inputs(self, indices: np.ndarray) -> jax.Array:
        """Encoded test images [n, H, W, 6]."""
        return add_inverse(jnp.asarray(self.images(indices)))


def open_run(workdir: Path, data_dir: str | None) -> Run:
    """Load a run and classify its test images; raises InputError where there is no run or no checkpoint."""
    config, _ = load_config(workdir)
    model, variables, _ = from_pretrained(workdir)
    dataset = load_dataset(workdir, data_dir)
    logits, labels = classify(model, variables, dataset.test)
    step = Checkpoints(workdir / "checkpoints").latest_step()
    return Run(workdir, config, step, model, variables, dataset, logits, labels)


class Measurement(NamedTuple):
    """One metric, ready to be taken of any method.

    Attributes:
        settings: all that it depends on besides the method and the run.
        examples: how many grids or images it is taken of.
        example: an input [1, H, W, 6] and its targets [1, T], as methods will get them.
        total: how much there is to do for a method.
        unit: of `total`.
        measure: from a method, and a function to be called with what has been done, to results for JSON.
    """

    settings: dict[str, Any]
    examples: int
    example: tuple[jax.Array, np.ndarray]
    total: int
    unit: str
    measure: Callable[[Method, Callable[[int], None]], dict[str, Any]]


def localisation(run: Run, side: int, count: int | None) -> Measurement:
    """The localisation metric on grids of `side` times `side` images, of which there are `count`."""
    grid = (side, side)
    grids = draw_grids(run.logits, run.labels, count=count, grid=grid, seed=SEED)
    targets = run.labels[grids]

    def compose(rows: np.ndarray) -> jax.Array:
        own = np.arange(grids[rows].size).reshape(-1, side * side)
        return compose_grids(run.inputs(grids[rows].ravel()), own, grid)

    def measure(method: Method, advance: Callable[[int], None]) -> dict[str, Any]:
        scores = []
        for rows, new in _batches(len(grids), _GRIDS_AT_ONCE):
            maps = contribution_map(method.explain(run.model, run.variables, compose(rows), targets[rows]))
            scores.append(np.asarray(localisation_score(maps, grid))[:new])
            advance(new)
        scores = np.concatenate(scores)
        return {
            "mean": float(scores.mean()),
            "median": float(np.median(scores)),
            "scores": scores.tolist(),
            "logits": run.logits[grids, targets].tolist(),
        }

    settings = {"grid": list(grid), "grids": len(grids), "seed": SEED}
    example = compose(np.arange(1)), targets[:1]
    return Measurement(settings, len(grids), example, len(grids), "grids", measure)


def pixel_removal(run: Run, count: int) -> Measurement:
    """The probability of the true class of the first `count` test images while pixels are removed."""
    indices, targets = _first(run, count)
    example = run.inputs(indices[:1]), targets[:1]
    points = min(_POINTS, int(FRACTION * example[0][0, :, :, 0].size))

    def measure(method: Method, advance: Callable[[int], None]) -> dict[str, Any]:
        curves = {"least": [], "most": []}
        for rows, new in _batches(len(indices), _IMAGES_AT_ONCE):
            inputs = run.inputs(indices[rows])
            maps = contribution_map(method.explain(run.model, run.variables, inputs, targets[rows]))[:, 0]
            for order, of_order in curves.items():
                curve = removal_curve(run.model, run.variables, inputs, maps, targets[rows, 0], FRACTION, points, order)
                of_order.append(np.asarray(curve)[:new])
            advance(new)
        means = {order: np.concatenate(of_order).mean(0) for order, of_order in curves.items()}
        shares = np.linspace(0, FRACTION, points + 1)
        return {
            order: {
                "after_5_percent": float(np.interp(0.05, shares, mean)),
                "after_25_percent": float(mean[-1]),
                "curve": mean.tolist(),
            }
            for order, mean in means.items()
        }

    settings = {"images": len(indices), "fraction": FRACTION, "points": points}
    return Measurement(settings, len(indices), example, len(indices), "images", measure)


def completeness(run: Run) -> Measurement:
    """By how much attributions to the true class miss its logit, relative to that of an input of zeros.

    Of a network's own contributions, relative to its bias, which is that logit unless the network is a hybrid.
    """
    indices, targets = _first(run, _COMPLETENESS_IMAGES)
    example = run.inputs(indices[:1]), targets[:1]
    baseline = np.asarray(jax.jit(run.model.apply)(run.variables, jnp.zeros_like(example[0])))[0]

    def measure(method: Method, advance: Callable[[int], None]) -> dict[str, Any]:
        residuals = []
        reference = np.full_like(baseline, run.model.logit_bias) if method.own else baseline
        for rows, new in _batches(len(indices), _IMAGES_AT_ONCE):
            attributions = method.explain(run.model, run.variables, run.inputs(indices[rows]), targets[rows])
            logits = np.take_along_axis(run.logits[indices[rows]], targets[rows], axis=1)
            residuals.append(np.asarray(completeness_residual(attributions, logits, reference[targets[rows]]))[:new])
            advance(new)
        residuals = np.concatenate(residuals)
        return {"median": float(np.median(residuals)), "percentile_95": float(np.percentile(residuals, 95))}

    return Measurement({"images": len(indices)}, len(indices), example, len(indices), "images", measure)


def randomisation(run: Run) -> Measurement:
    """How alike the maps of the true class stay while the layers are randomised, from the output to the input."""
    indices, targets = _first(run, _RANDOMISATION_IMAGES)
    inputs = run.inputs(indices)
    layers = run.model.layer_names[::-1]

    def measure(method: Method, advance: Callable[[int], None]) -> dict[str, Any]:
        def maps(variables: Variables) -> np.ndarray:
            maps = np.asarray(contribution_map(method.explain(run.model, variables, inputs, targets))[:, 0])
            advance(len(indices))
            return maps

        trained = maps(run.variables)
        networks = randomise_layers(run.model, run.variables, inputs[:1], jax.random.key(_RANDOMISATION_SEED), layers)
        # Placed as the trained ones are, they need no program of their own.
        placed = (jax.device_put(variables, jax.local_devices()[0]) for _, variables in networks)
        similarities = [map_similarity(trained, maps(variables)).mean() for variables in placed]
        return {"layers": layers, "rank_correlation": [float(similarity) for similarity in similarities]}

    settings = {"images": len(indices), "seed": _RANDOMISATION_SEED}
    total = len(indices) * (1 + len(layers))
    return Measurement(settings, len(indices), (inputs[:1], targets[:1]), total, "images", measure)


def _first(run: Run, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices [n] of the first test images, and their labels [n, 1]; n is `count` or all."""
    indices = np.arange(min(count, len(run.labels)))
    return indices, run.labels[indices, None]


def _batches(count: int, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Indices from 0 to `count - 1` in batches of one size, so that nothing is compiled twice, and how many are new."""
    size = min(size, count)
    for start in range(0, count, size):
        yield np.minimum(np.arange(start, start + size), count - 1), min(size, count - start)
