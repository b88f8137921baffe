"""The page `report.html` of a run: what goes on it, and that it stays small."""

import base64
import io
import os
import platform
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from jinja2 import Environment, StrictUndefined
from PIL import Image

import coda_jax
from coda_jax.config_file import load_config
from coda_jax.data import Dataset
from coda_jax.encoding import add_inverse
from coda_jax.errors import InputError
from coda_jax.files import replace_files
from coda_jax.interop.pretrained import from_pretrained
from coda_jax.networks.coda_net import CoDANet
from coda_jax.plotting.maps import colour_table, contribution_scale, shortened
from coda_jax.report.measured import read_results, table
from coda_jax.training.evaluation import classify
from coda_jax.training.metrics_log import read_metrics

LARGEST = 5_000_000
"""Bytes that a page has at most."""

_KINDS = ("Confident and right", "Unsure", "Confident and wrong")
_MOST_OF_A_KIND = 10
_MOST_CLASSES = 10
_MOST_MISTAKES = 8
_MOST_POINTS = 500  # Of a curve.
_LARGEST_FIGURE = 400_000  # Bytes of a file.
_LONGEST_NAME = 40
_AROUND_IMAGES = 10_000  # Bytes, at most, of what the page has only where there are images.
_AT_ONCE = 8  # Images that are explained together.

_FIGURES = {
    "localisation_3x3": "Localisation on grids of 3×3 test images of distinct classes: the share of a class's positive "
    "attribution that falls on its own image. 1 is perfect, 1/9 is chance.",
    "localisation_2x2": "Localisation on grids of 2×2 test images. 1 is perfect, 1/4 is chance.",
    "pixel_removal": "Pixels are removed, the least or the most important first. With a good explanation the "
    "probability of the true class stays high on the left, and falls quickly on the right.",
}


def write_report(
    workdir: str | os.PathLike, dataset: Dataset, network: tuple[CoDANet, Mapping[str, Any]] | None = None
) -> Path:
    """Write `report.html` into the directory of a run: one file of at most 5 MB that needs nothing else.

    It has the learning curves, the confusion matrix of the whole test set, test images whose contributions can be
    looked at pixel by pixel, for several classes and at every layer, the figures and numbers in `interpretability`, and
    the configuration. Everything is computed in float32, so that contributions add up whatever the network's dtype.

    Args:
        workdir: the directory of the run.
        dataset: of the run.
        network: the model and its variables where they are at hand; None for those of the newest checkpoint.

    Returns:
        The file.

    Raises:
        InputError: there is no run, it is damaged or of another network than a CoDA-Net, its classes are not those of
            the data set, a record of what was measured is damaged, or nothing can be written there.
    """
    workdir = Path(workdir)
    config, _ = load_config(workdir)
    model, variables = from_pretrained(workdir)[:2] if network is None else network
    _check(workdir, model, dataset)
    model = model.clone(dtype="float32")
    with jax.default_matmul_precision("highest"):  # As the contributions.
        logits, labels = classify(model, variables, dataset.test)
    sizes = _layer_sizes(model, variables, dataset)
    records = read_metrics(workdir / "metrics.jsonl")
    page = {
        **_about_run(workdir, config, records),
        **_about_network(model, variables),
        **_about_test_set(logits, labels),
        "kinds": [],
        "data": _page_data(model, dataset, records, confusion(logits.argmax(-1), labels), sizes),
    }
    _add_images(page, model, variables, dataset, logits, labels, sizes)
    path = workdir / "report.html"
    replace_files({path: _render(page).encode()})
    return path


def _check(workdir: Path, model: Any, dataset: Dataset) -> None:
    """Raise InputError for a network that is no CoDA-Net, or data of other classes."""
    if not isinstance(model, CoDANet):
        raise InputError(f"{workdir} is a run of a {type(model).__name__}: the report is for CoDA-Nets")
    classes = len(dataset.info.class_names)
    if classes != model.channels[-1]:
        raise InputError(f"dataset has {classes} classes, but the network in {workdir} has {model.channels[-1]}")


def _about_run(workdir: Path, config: Mapping[str, Any], records: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """What the page says of the run and of what was measured."""
    return {
        "dataset": str(config.get("dataset")),
        "step": records[-1]["step"] if records else None,
        "figures": _figures(workdir / "interpretability"),
        "table": _table(workdir / "interpretability"),
        "config": config,
        "versions": {
            **{module.__name__: module.__version__ for module in (coda_jax, jax, flax, np)},
            "Python": platform.python_version(),
        },
    }


def _about_network(model: CoDANet, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The network's name and size."""
    return {
        "name": model.title,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
    }


def _about_test_set(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """How well the test images are classified, of logits [N, K] and labels [N]."""
    predicted = logits.argmax(-1)
    return {
        "test_images": len(labels),
        "accuracy": float(np.mean(predicted == labels)),
        "mistakes": commonest_mistakes(predicted, labels),
    }


def _page_data(
    model: CoDANet,
    dataset: Dataset,
    records: Sequence[Mapping[str, float]],
    cells: list[list[int]],
    sizes: Sequence[tuple[int, int]],
) -> dict[str, Any]:
    """What the page's program reads, without any image; `cells` are those of `confusion`."""
    return {
        "classes": [shortened(name, _LONGEST_NAME) for name in dataset.info.class_names],
        "bias": model.logit_bias,
        "colours": colour_table().tolist(),
        "curves": learning_curves(records),
        "confusion": cells,
        "layers": [
            {"name": name, "height": height, "width": width}
            for name, (height, width) in zip(_layer_names(len(sizes)), sizes, strict=True)
        ],
        "images": [],
    }


def _add_images(
    page: dict[str, Any],
    model: CoDANet,
    variables: Mapping[str, Any],
    dataset: Dataset,
    logits: np.ndarray,
    labels: np.ndarray,
    sizes: Sequence[tuple[int, int]],
) -> None:
    """Put as many explained test images on the page as it has room for; logits are [N, K], labels [N]."""
    without_images = len(_render(page).encode()) + _AROUND_IMAGES
    count, explained = _how_many(sizes, len(dataset.info.class_names), LARGEST - without_images)
    kinds = choose_images(logits, labels, count)
    chosen = np.concatenate(kinds)
    if not chosen.size:
        return
    images = explained_images(model, variables, dataset, chosen, logits[chosen], labels[chosen], explained)
    page["data"]["images"] = images
    ends = np.cumsum([len(kind) for kind in kinds])
    page["kinds"] = [
        (title, [(number, images[number]) for number in range(end - len(kind), end)])
        for title, kind, end in zip(_KINDS, kinds, ends, strict=True)
        if len(kind)
    ]


def choose_images(logits: np.ndarray, labels: np.ndarray, count: int) -> list[np.ndarray]:
    """Test images that tell much: confident and right, unsure, and confident and wrong; none of them twice.

    The predicted class's logit says how confident the network is. The true classes take turns, so that no class fills
    the choice.

    Args:
        logits: [N, K].
        labels: [N], the true classes.
        count: the most images of a kind.

    Returns:
        Indices of images, for each kind, at most [count].
    """
    most_confident = np.argsort(-logits.max(-1), kind="stable")
    right = (logits.argmax(-1) == labels)[most_confident]
    confident_and_right = _in_turn(most_confident[right], labels)[:count]
    confident_and_wrong = _in_turn(most_confident[~right], labels)[:count]
    others = most_confident[~np.isin(most_confident, np.concatenate([confident_and_right, confident_and_wrong]))]
    return [confident_and_right, _in_turn(others[::-1], labels)[:count], confident_and_wrong]


def _in_turn(indices: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The first index of every class, in the order of the indices, then the second of every class, and so on."""
    of_class = labels[indices]
    turns = np.zeros(len(indices), int)
    for label in np.unique(of_class):
        turns[of_class == label] = np.arange(np.sum(of_class == label))
    return indices[np.argsort(turns, kind="stable")]


def confusion(predicted: np.ndarray, labels: np.ndarray) -> list[list[int]]:
    """[true class, predicted class, number of images] wherever there are any; both arguments are [N]."""
    pairs, counts = np.unique(np.stack([labels, predicted], axis=1), axis=0, return_counts=True)
    return np.column_stack([pairs, counts]).tolist()


def commonest_mistakes(predicted: np.ndarray, labels: np.ndarray) -> list[list[float]]:
    """The commonest first: [true class, predicted class, number of images, share of the true class's images].

    Args:
        predicted: [N].
        labels: [N].
    """
    wrong = [cell for cell in confusion(predicted, labels) if cell[0] != cell[1]]
    commonest = sorted(wrong, key=lambda cell: cell[2], reverse=True)[:_MOST_MISTAKES]
    return [[*cell, cell[2] / int(np.sum(labels == cell[0]))] for cell in commonest]


def learning_curves(records: Sequence[Mapping[str, float]]) -> dict[str, dict[str, list[list[float]]]]:
    """[epoch, value] of loss and accuracy, of training and test; of long curves every second, third ... record.

    Args:
        records: as `metrics_log.read_metrics` reads them.
    """

    def points(name: str) -> list[list[float]]:
        of_name = [[record["epoch"], record[name]] for record in records if name in record]
        every = -(-len(of_name) // _MOST_POINTS) or 1
        return of_name[::-1][::every][::-1]  # The last record stays.

    return {name: {"training": points(name), "test": points(f"test_{name}")} for name in ("accuracy", "loss")}


def explained_images(
    model: CoDANet,
    variables: Mapping[str, Any],
    dataset: Dataset,
    indices: np.ndarray,
    logits: np.ndarray,
    labels: np.ndarray,
    classes: int,
) -> list[dict[str, Any]]:
    """What the page shows of test images.

    Args:
        model: the network.
        variables: its parameters.
        dataset: whose test images they are.
        indices: [n], of the images in the test set.
        logits: [n, K].
        labels: [n].
        classes: T, how many classes are explained: the most probable ones, and the true one if it is none of them.

    Returns:
        For each image its `index`, `label` and PNG `source`, the `targets` [T], their `logits` and `probabilities`,
        and for each of the L layers' inputs `maps`, the contribution maps [T, Hl, Wl] as little-endian float32 in
        base64, `positive` [L][T] and `negative` [L][T], what the positions above and below zero sum to, and `scales`
        [L], the contribution that is shown in full colour.
    """
    targets = np.argsort(-logits, axis=-1, kind="stable")[:, :classes]
    missing = ~(targets == labels[:, None]).any(-1)
    targets[missing, -1] = labels[missing]
    pixels = np.stack([dataset.test[int(index)]["image"] for index in indices])
    inputs = add_inverse(pixels.astype(np.float32) / 255)
    # Always as many at once, the last of them again and again, so that only one program is compiled.
    chunks = np.minimum(np.arange(-(-len(indices) // _AT_ONCE) * _AT_ONCE), len(indices) - 1).reshape(-1, _AT_ONCE)
    in_chunks = [_layer_maps(model, variables, inputs[chunk], targets[chunk]) for chunk in chunks]
    by_layer = [np.concatenate(maps).astype("<f4") for maps in zip(*in_chunks, strict=True)]
    target_logits = np.take_along_axis(logits, targets, axis=-1)
    return [
        {
            "index": int(index),
            "label": int(labels[row]),
            "source": _png(pixels[row]),
            "targets": targets[row].tolist(),
            "logits": target_logits[row].tolist(),
            # Never 0 or 1, which rounding makes of them.
            "probabilities": np.clip(jax.nn.sigmoid(target_logits[row]), 1e-7, 1 - 1e-7, dtype=np.float64).tolist(),
            "maps": [_base64(maps[row].tobytes()) for maps in by_layer],
            "positive": [np.maximum(maps[row], 0).sum((1, 2)).tolist() for maps in by_layer],
            "negative": [np.minimum(maps[row], 0).sum((1, 2)).tolist() for maps in by_layer],
            "scales": [contribution_scale(maps[row]) for maps in by_layer],
        }
        for row, index in enumerate(indices)
    ]


@partial(jax.jit, static_argnums=0)
def _layer_maps(model: CoDANet, variables: Mapping[str, Any], inputs: jax.Array, targets: jax.Array) -> list[jax.Array]:
    """For every layer the contribution maps in the space of its input, [n, T, Hl, Wl], all from one forward pass."""
    with jax.default_matmul_precision("highest"):
        _, linear_map = model.apply(variables, inputs, method="decompose")
        rows, maps = jax.nn.one_hot(targets, model.channels[-1]), []
        for layer, layer_inputs in zip(linear_map.layers[::-1], linear_map.inputs[::-1], strict=True):
            rows = layer.transpose(rows)
            maps.append(jnp.sum(rows * layer_inputs[:, None], axis=-1))
    return maps[::-1]


def _layer_sizes(model: CoDANet, variables: Mapping[str, Any], dataset: Dataset) -> list[tuple[int, int]]:
    """(height, width) of the input of every layer, and of the head."""
    height, width, _ = dataset.test[0]["image"].shape
    inputs = jax.ShapeDtypeStruct((1, height, width, 6), np.float32)
    _, linear_map = jax.eval_shape(partial(model.apply, method="decompose"), variables, inputs)
    return [layer_inputs.shape[1:3] for layer_inputs in linear_map.inputs]


def _layer_names(count: int) -> list[str]:
    return ["image", *(f"input of layer {layer}" for layer in range(1, count - 1)), "input of the head"]


def _how_many(sizes: Sequence[tuple[int, int]], classes: int, room: int) -> tuple[int, int]:
    """How many images of each kind, and how many classes of each image, fit into so many bytes.

    All classes up to ten are explained, but fewer where fewer than three images of a kind would fit.
    """
    height, width = sizes[0]
    # A map with its two sums, and a class's number, logit and probability, as text.
    of_class = sum(_base64_length(4 * h * w) + 60 for h, w in sizes) + 80
    # No PNG is much larger than its pixels; the rest is the image's card, with all its names escaped, and its scales.
    of_image = _base64_length(3 * height * width) * 1.01 + 4_000 + 25 * len(sizes)

    def fitting(shown: int) -> int:
        return max(0, min(_MOST_OF_A_KIND, int(room // (of_image + shown * of_class) // len(_KINDS))))

    shown = min(classes, _MOST_CLASSES)
    while shown > 2 and fitting(shown) < 3:
        shown -= 1
    return fitting(shown), shown


def _figures(directory: Path) -> list[dict[str, str]]:
    """Title, description and source of the figures that are there, as SVG or PNG, whichever is smaller."""
    figures = []
    for name, description in _FIGURES.items():
        files = [path for suffix in ("svg", "png") if (path := directory / f"{name}.{suffix}").is_file()]
        file = min(files, key=lambda path: path.stat().st_size, default=None)
        if file and file.stat().st_size <= _LARGEST_FIGURE:
            kind = "svg+xml" if file.suffix == ".svg" else "png"
            source = f"data:image/{kind};base64,{_base64(file.read_bytes())}"
            figures.append({"name": name, "description": description, "source": source})
    return figures


def _table(directory: Path) -> list[list[str]]:
    """The rows of the table of what was measured, the titles first; none where nothing was."""
    results = read_results(directory)
    return [[shortened(cell, _LONGEST_NAME) for cell in row] for row in table(results)] if results else []


def _render(page: Mapping[str, Any]) -> str:
    """The HTML of the page."""
    files = resources.files(__package__)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = _percent
    template = environment.from_string(files.joinpath("template.html").read_text(encoding="utf-8"))
    ours = {name: files.joinpath(f"report.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    return template.render(page, **ours)


def _percent(probability: float) -> str:
    """With one decimal, and no certainty where there is none."""
    if 0 < probability < 0.001:
        return "<0.1%"
    if 0.999 < probability < 1:
        return ">99.9%"
    return f"{probability:.1%}"


def _png(pixels: np.ndarray) -> str:
    """The source of an image, uint8 [H, W, 3]."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{_base64(file.getvalue())}"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _base64_length(length: int) -> int:
    return -(-length // 3) * 4
