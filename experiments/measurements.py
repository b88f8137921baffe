"""The metrics as they are taken of a trained network, method by method."""

import math
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from coda_jax import CoDANet, InputError, add_inverse, data, from_pretrained
from coda_jax.attribution.layers import split
from coda_jax.attribution.protocol import LogitsFn, compute_logits
from coda_jax.contributions import contribution_map, layer_contributions, upsampled_map
from coda_jax.errors.checks import check_whole
from coda_jax.metrics.checkerboard import checkerboard_share
from coda_jax.metrics.completeness import completeness_residual
from coda_jax.metrics.localisation import compose_grids, draw_grids, join_cells, localisation_score
from coda_jax.metrics.mosaics import cell_by_cell, cut_cells, difull
from coda_jax.metrics.pixel_removal import ORDERS, removal_curve
from coda_jax.metrics.randomisation import map_similarity, randomise_layers
from coda_jax.networks.config_file import load_config
from coda_jax.networks.variables import Network
from coda_jax.training.checkpoints import Checkpoints
from coda_jax.training.evaluation import classify
from coda_jax.training.run_directory import load_dataset
from experiments.methods import Method, Variables, as_function, averaged, own_contributions

SEED = 0
FRACTION = 0.25
_POINTS = 128
_COMPLETENESS_IMAGES = 128
_CHECKERBOARD_IMAGES = 128
_RANDOMISATION_IMAGES = 64
_RANDOMISATION_SEED = 1  # Training may have begun from 0.
_GRIDS_AT_ONCE = 10
_IMAGES_AT_ONCE = 64


class Run(NamedTuple):
    """A finished run.

    Attributes:
        workdir: its directory.
        config: its configuration.
        step: the checkpoint's.
        model: the network.
        variables: the network's.
        dataset: its data.
        logits: [N, K], of all test images.
        labels: [N], of all test images.
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
    def about(self) -> dict[str, Any]:
        """What the results depend on of it."""
        return {"model": self.config["model"], "dataset": self.config["dataset"], "step": self.step}

    @property
    def temperature(self) -> float:
        """T of a CoDA-Net, and infinity for other networks."""
        return getattr(self.model, "temperature", math.inf)

    @property
    def accuracy(self) -> float:
        """On the test images."""
        return float(np.mean(self.logits.argmax(-1) == self.labels))

    @property
    def side(self) -> int:
        """Of its images, squares, in pixels."""
        return self.dataset.info.preprocessing.size

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


def classify_precisely(model: nn.Module, variables: Variables, dataset: data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """`classify` all test images in the precision of attributions, which are compared with the logits."""
    with jax.default_matmul_precision("highest"):
        return classify(model, variables, dataset.test)


def open_run(workdir: Path, data_dir: str | None) -> Run:
    """Load a run and classify its test images; raises InputError where there is no run or no checkpoint."""
    config, _ = load_config(workdir)
    model, variables, _ = from_pretrained(workdir)
    if isinstance(model, Network):
        model = model.clone(dtype="float32")  # Whatever it was trained in, as it is published.
    dataset = load_dataset(workdir, data_dir)
    logits, labels = classify_precisely(model, variables, dataset)
    step = Checkpoints(workdir / "checkpoints").latest_step()
    return Run(workdir, config, step, model, variables, dataset, logits, labels)


class Measurement(NamedTuple):
    """One metric, ready to be taken of any method.

    Attributes:
        settings: all that it depends on besides the method and the run.
        examples: how many grids or images it is taken of.
        example: an input [1, H, W, 6] and its targets [1, T], as methods will get them.
        total: how much there is to do for a method.
        unit: what `total` counts.
        measure: from a method, and a function to be called with what has been done, to results for JSON.
        refuse: from a method to why it cannot be measured, and None if it can.
    """

    settings: dict[str, Any]
    examples: int
    example: tuple[jax.Array, np.ndarray]
    total: int
    unit: str
    measure: Callable[[Method, Callable[[int], None]], dict[str, Any]]
    refuse: Callable[[Method], str | None] = lambda method: None


Explain = Callable[[jax.Array, np.ndarray], jax.Array]
"""From inputs [n, H, W, 6] and targets [n, T] to attributions [n, T, h, w, C], of the inputs or of a layer's output."""

Score = Callable[[Method, np.ndarray, jax.Array], Any]
"""From a method, the places [n] of examples and attributions [n, T, H, W, C] to one or several arrays [n, ...]."""


def of_images(run: Run, count: int, score: Score) -> Measurement:
    """Mean and percentiles of a score of the first `count` test images, explained for their true classes."""

    def summarise(scores: np.ndarray) -> dict[str, Any]:
        mean, median, percentile_95 = scores.mean(), np.median(scores), np.percentile(scores, 95)
        return {"mean": float(mean), "median": float(median), "percentile_95": float(percentile_95)}

    targets = run.labels[:count, None]
    return _in_batches(run, run.inputs, targets, _IMAGES_AT_ONCE, {"images": len(targets)}, score, summarise)


def localisation(
    run: Run,
    side: int,
    count: int | None,
    explain: Callable[[Method], Explain] | None = None,
) -> Measurement:
    """The localisation metric on grids of `side` times `side` images, of which there are `count`.

    `explain` takes the place of the methods' own; attributions whose cells have no whole number of positions are
    upsampled to pixels.
    """
    grid = (side, side)
    grids = draw_grids(run.logits, run.labels, count=count, grid=grid, seed=SEED)
    targets = run.labels[grids]

    def compose(rows: np.ndarray) -> jax.Array:
        own = np.arange(grids[rows].size).reshape(-1, side * side)
        return compose_grids(run.inputs(grids[rows].ravel()), own, grid)

    def score(method: Method, rows: np.ndarray, attributions: jax.Array) -> jax.Array:
        maps = contribution_map(attributions)
        if any(positions % side for positions in maps.shape[2:]):
            maps = upsampled_map(maps, (side * run.side, side * run.side))
        return localisation_score(maps, grid)

    def summarise(scores: np.ndarray) -> dict[str, Any]:
        mean, median, logits = scores.mean(), np.median(scores), run.logits[grids, targets]
        return {"mean": float(mean), "median": float(median), "scores": scores.tolist(), "logits": logits.tolist()}

    settings = {"grid": list(grid), "grids": len(grids), "seed": SEED}
    return _in_batches(run, compose, targets, _GRIDS_AT_ONCE, settings, score, summarise, explain)


def mosaics(
    run: Run, side: int, count: int | None, control: Callable[[LogitsFn, tuple[int, int]], LogitsFn]
) -> Measurement:
    """Localisation where the network cannot see the cells together: `control` is `difull` or `dipart`.

    Grad-CAM is scored at its layer's resolution, so that enlarging it carries nothing over a border.
    """
    grid, cells, full = (side, side), side * side, control is difull
    first_class = np.arange(cells) * run.logits.shape[1] if full else 0

    def explain_cells(method: Method, inputs: jax.Array, targets: np.ndarray) -> jax.Array:
        # Every cell has contributions to all targets of its grid, in DiFull to its own alone.
        of_each = targets.reshape(-1, 1) if full else np.repeat(targets, cells, axis=0)
        of_cells = own_contributions(run.model, run.variables, cut_cells(inputs, grid), of_each)
        maps = contribution_map(of_cells)
        if full:
            maps = maps * np.tile(np.eye(cells, dtype=maps.dtype), (len(targets), 1))[:, :, None, None]
        joined = jnp.moveaxis(join_cells(jnp.moveaxis(maps, 1, -1), grid), -1, 1)[..., None]
        return averaged(joined, method.settings.get("window", 1))

    def explain(method: Method) -> Explain:
        if method.of_function is None:
            return partial(explain_cells, method)
        if "layer" not in method.settings:
            return lambda inputs, targets: method.of_function(
                lambda **functions: control(as_function(run.model, run.variables, **functions), grid),
                inputs,
                targets + first_class,
            )
        network, image = as_function(run.model, run.variables), run.inputs(np.arange(1))
        features, head = split(network, image, run.model.gradcam_layer)
        features, head = cell_by_cell(features, grid), control(head, grid)
        return lambda inputs, targets: method.of_function(
            lambda: head, compute_logits(features, inputs), targets + first_class
        )

    return localisation(run, side, count, explain)


def localisation_of_layers(run: Run, side: int, count: int | None) -> Measurement:
    """Localisation of what is attributed to the outputs of all layers that have positions, from the first to the last.

    Raises InputError for hybrids.
    """
    model, names = run.model, list(run.model.layer_names)
    if model.gradcam_layer not in names:
        raise InputError(f"it is not defined for a {model.title}")
    names = names[: names.index(model.gradcam_layer) + 1]
    images = run.inputs(np.arange(2))  # DeepLIFT's activations take inputs and as many baselines.

    def explain_at(place: int) -> Callable[[Method], Explain]:
        def explain(method: Method) -> Explain:
            if method.of_function is None:
                # Between the first layer and the second there may be pooling, which has no name.
                layer = place + 1 + (len(model.channels) - len(model.layer_names) if place else 0)
                return partial(layer_contributions, model, run.variables, layer=layer, chunk_size=16)

            @cache
            def parts(**functions: Callable) -> tuple[LogitsFn, LogitsFn]:
                return split(as_function(model, run.variables, **functions), images, names[place])

            features, _ = parts()
            return lambda inputs, targets: method.of_function(
                lambda **functions: parts(**functions)[1], compute_logits(features, inputs), targets
            )

        return explain

    of_layers = [localisation(run, side, count, explain_at(place)) for place in range(len(names))]

    def measure(method: Method, advance: Callable[[int], None]) -> dict[str, Any]:
        found = [of_layer.measure(method, advance) for of_layer in of_layers]
        mean, median = ([of_layer[key] for of_layer in found] for key in ("mean", "median"))
        return {"layers": names, "mean": mean, "median": median, "middle": mean[(len(mean) - 1) // 2]}

    def refuse(method: Method) -> str | None:
        return "its settings are of pixels, of which layers have none" if method.of_pixels else None

    return of_layers[0]._replace(total=of_layers[0].total * len(names), measure=measure, refuse=refuse)


def pixel_removal(run: Run, count: int) -> Measurement:
    """The probability of the true class of the first `count` test images while pixels are removed."""
    labels = run.labels[:count]
    points = min(_POINTS, int(FRACTION * run.inputs(np.arange(1))[0, :, :, 0].size))

    def score(method: Method, rows: np.ndarray, attributions: jax.Array) -> dict[str, jax.Array]:
        example = run.model, run.variables, run.inputs(rows), contribution_map(attributions)[:, 0], labels[rows]
        return {order: removal_curve(*example, FRACTION, points, order) for order in ORDERS}

    def summarise(curves: dict[str, np.ndarray]) -> dict[str, Any]:
        shares = np.linspace(0, FRACTION, points + 1)
        means = {order: of_order.mean(0) for order, of_order in curves.items()}
        return {
            order: {
                "after_5_percent": float(np.interp(0.05, shares, mean)),
                "after_25_percent": float(mean[-1]),
                "curve": mean.tolist(),
            }
            for order, mean in means.items()
        }

    settings = {"images": len(labels), "fraction": FRACTION, "points": points}
    return _in_batches(run, run.inputs, labels[:, None], _IMAGES_AT_ONCE, settings, score, summarise)


def completeness(run: Run) -> Measurement:
    """By how much attributions to the true class miss its logit, relative to that of an input of zeros.

    Of a network's own contributions, relative to its bias, which is that logit unless the network is a hybrid.
    """
    zeros = jnp.zeros_like(run.inputs(np.arange(1)))
    of_zeros = np.asarray(jax.jit(run.model.apply)(run.variables, zeros))[0]

    def residual(method: Method, rows: np.ndarray, attributions: jax.Array) -> jax.Array:
        targets = run.labels[rows, None]
        baseline = run.model.logit_bias if method.own else of_zeros[targets]
        return completeness_residual(attributions, np.take_along_axis(run.logits[rows], targets, axis=1), baseline)

    return of_images(run, _COMPLETENESS_IMAGES, residual)


def checkerboard(run: Run) -> Measurement:
    """The share of the maps of the true class that repeats itself with the strides of a CoDA-Net.

    Raises InputError for other networks, and where no layer has a stride.
    """
    if not isinstance(run.model, CoDANet):
        raise InputError(f"it is defined for CoDA-Nets, and {run.model.title} is none")
    period = math.prod(run.model.strides)
    check_whole("the product of the strides", period, 2)

    def score(method: Method, rows: np.ndarray, attributions: jax.Array) -> jax.Array:
        return checkerboard_share(contribution_map(attributions), period)

    return of_images(run, _CHECKERBOARD_IMAGES, score)


def randomisation(run: Run) -> Measurement:
    """How alike the maps of the true class stay while the layers are randomised, from the output to the input."""
    targets = run.labels[:_RANDOMISATION_IMAGES, None]
    inputs = run.inputs(np.arange(len(targets)))
    layers = run.model.layer_names[::-1]

    def measure(method: Method, advance: Callable[[int], None]) -> dict[str, Any]:
        def maps(variables: Variables) -> jax.Array:
            maps = contribution_map(method.explain(run.model, variables, inputs, targets))[:, 0]
            advance(len(jax.block_until_ready(maps)))
            return maps

        trained = maps(run.variables)
        networks = randomise_layers(run.model, run.variables, inputs[:1], jax.random.key(_RANDOMISATION_SEED), layers)
        # Placed as the trained ones are, they need no program of their own.
        placed = (jax.device_put(variables, jax.local_devices()[0]) for _, variables in networks)
        similarities = [map_similarity(trained, maps(variables)).mean() for variables in placed]
        return {"layers": layers, "rank_correlation": [float(similarity) for similarity in similarities]}

    settings = {"images": len(targets), "seed": _RANDOMISATION_SEED}
    total = len(targets) * (1 + len(layers))
    return Measurement(settings, len(targets), (inputs[:1], targets[:1]), total, "images", measure)


def _in_batches(
    run: Run,
    inputs: Callable[[np.ndarray], jax.Array],
    targets: np.ndarray,
    at_once: int,
    settings: dict[str, Any],
    score: Score,
    summarise: Callable[[Any], dict[str, Any]],
    explain: Callable[[Method], Explain] | None = None,
) -> Measurement:
    """A metric that sums up the scores of N examples, which are explained `at_once` together.

    `inputs` makes the inputs [n, H, W, 6] of examples of their places [n]; `targets` are [N, T]. Methods explain the
    network as `explain` says; as a whole if it is None.
    """
    count = len(targets)

    def measure(method: Method, advance: Callable[[int], None]) -> dict[str, Any]:
        scores = []
        explained = explain(method) if explain else partial(method.explain, run.model, run.variables)
        for start in range(0, count, at_once):
            # Batches have one size, so that nothing is compiled twice; the last is filled up with its last example.
            rows = np.minimum(np.arange(start, start + min(at_once, count)), count - 1)
            of_batch = score(method, rows, explained(inputs(rows), targets[rows]))
            new = min(at_once, count - start)
            scores.append(jax.tree.map(lambda array, new=new: np.asarray(array)[:new], of_batch))
            advance(new)
        return summarise(jax.tree.map(lambda *arrays: np.concatenate(arrays), *scores))

    unit = "grids" if "grids" in settings else "images"
    return Measurement(settings, count, (inputs(np.arange(1)), targets[:1]), count, unit, measure)
