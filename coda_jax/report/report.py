"""The page `report.html` of a run: what goes on it, and that it stays small."""

import base64
import io
import os
import platform
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

import coda_jax
from coda_jax.contributions import layer_maps, linear_weights
from coda_jax.data import Dataset
from coda_jax.errors import InputError
from coda_jax.errors.files import replace_files
from coda_jax.explanation import recognised
from coda_jax.interop.pretrained import from_pretrained
from coda_jax.networks.coda_net import CoDANet
from coda_jax.networks.config_file import load_config
from coda_jax.networks.encoding import add_inverse
from coda_jax.networks.variables import Network
from coda_jax.plotting.maps import called, colour_explanation, colour_table, contribution_scale, shortened
from coda_jax.report.measured import Records, caption, read_records, table
from coda_jax.training.evaluation import classify
from coda_jax.training.metrics_log import read_metrics

LARGEST = 5_000_000
"""Bytes that a page has at most."""

_KINDS = ("Confident and right", "Unsure", "Confident and wrong")
_MOST_OF_A_KIND, _MOST_CLASSES, _MOST_MISTAKES = 10, 10, 8
_MOST_POINTS = 500  # Of a curve.
_LARGEST_FIGURE = 400_000  # Bytes of a file.
_LONGEST_NAME = 40
_AROUND_IMAGES = 10_000  # Bytes, at most, of what the page has only where there are images.
_AT_ONCE = 8  # Images that are explained together.


def write_report(
    workdir: str | os.PathLike,
    dataset: Dataset,
    network: tuple[Network, Mapping[str, Any]] | None = None,
    path: str | os.PathLike | None = None,
) -> Path:
    """Write the page of a run, one file of at most 5 MB that needs no other; returns its path.

    It has the learning curves, the confusion matrix of the whole test set, test images whose contributions can be
    looked at pixel by pixel, for several classes and at every layer, the figures and numbers in `interpretability`, and
    the configuration. Everything is computed in float32, so that contributions add up whatever the network's dtype.

    `dataset` is the run's. `network` is the model and its variables; None takes those of the newest checkpoint. `path`
    is where the page is written; None takes `report.html` in the directory of the run. A missing or damaged run, one of
    another network than a CoDA-Net or a B-cos network, or of other classes than the data set's, a damaged record of
    what was measured, and a directory that cannot be written raise InputError.
    """
    workdir = Path(workdir)
    config, _ = load_config(workdir)
    model, variables = from_pretrained(workdir)[:2] if network is None else network
    if not isinstance(model, Network):
        raise InputError(
            f"{workdir} is a run of a {type(model).__name__}: the report is for CoDA-Nets and B-cos networks"
        )
    names = dataset.info.class_names
    if len(names) != model.channels[-1]:
        raise InputError(f"dataset has {len(names)} classes, but the network in {workdir} has {model.channels[-1]}")
    model = model.clone(dtype="float32")
    with jax.default_matmul_precision("highest"):  # As the contributions.
        logits, labels = classify(model, variables, dataset.test)
    predicted = logits.argmax(-1)
    curves = read_metrics(workdir / "metrics.jsonl")
    height, width, _ = dataset.test[0]["image"].shape
    one = jax.ShapeDtypeStruct((1, height, width, 6), np.float32), jax.ShapeDtypeStruct((1, 1), np.int32)
    sizes = [maps.shape[2:] for maps in jax.eval_shape(partial(layer_maps, model), variables, *one)]
    layers = [
        ("image", "image"),
        *((f"input of layer {index}", f"layer {index}") for index in range(1, len(sizes) - 1)),
        ("input of the head", "head"),
    ]
    measured = read_records(workdir / "interpretability")
    page = {
        "kind": "CoDA-Net" if isinstance(model, CoDANet) else "B-cos network",
        "name": model.title,
        "dataset": str(config.get("dataset")),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        "step": curves[-1]["step"] if curves else None,
        "accuracy": float(np.mean(predicted == labels)),
        "test_images": len(labels),
        "unrecognised": float(np.mean(~recognised(logits))),
        "kinds": [],
        "mistakes": commonest_mistakes(predicted, labels),
        "figures": _figures(workdir / "interpretability", measured),
        "table": [[shortened(cell, _LONGEST_NAME) for cell in row] for row in table(measured)] if measured else [],
        "config": config,
        "versions": {module.__name__: module.__version__ for module in (coda_jax, jax, flax, np)}
        | {"Python": platform.python_version()},
        # What the page's program reads.
        "data": {
            "classes": [shortened(called(name), _LONGEST_NAME) for name in names],
            "bias": model.logit_bias,
            "colours": colour_table().tolist(),
            "curves": learning_curves(curves),
            "confusion": confusion(predicted, labels),
            "layers": [
                {"name": name, "short": short, "height": h, "width": w}
                for (name, short), (h, w) in zip(layers, sizes, strict=True)
            ],
            "images": [],
        },
    }
    room = LARGEST - len(_render(page).encode()) - _AROUND_IMAGES
    count, explained = _how_many(sizes, len(names), room)
    by_kind = choose_images(logits, labels, count)
    chosen = np.concatenate(by_kind)
    if chosen.size:
        images = explained_images(model, variables, dataset, chosen, logits[chosen], labels[chosen], explained)
        # Pictures are in the page once, on the cards.
        page["data"]["images"] = [
            {name: of_image for name, of_image in image.items() if name != "source"} for image in images
        ]
        numbered = enumerate(images)
        kinds = [(title, list(islice(numbered, len(kind)))) for title, kind in zip(_KINDS, by_kind, strict=True)]
        page["kinds"] = [kind for kind in kinds if kind[1]]
    path = workdir / "report.html" if path is None else Path(path)
    replace_files({path: _render(page).encode()})
    return path


def choose_images(logits: np.ndarray, labels: np.ndarray, count: int) -> list[np.ndarray]:
    """The indices of at most `count` test images of each kind: confident and right, unsure, confident and wrong.

    `logits` are [N, K], `labels`, the true classes, [N]. The predicted class's logit says how confident the network is.
    No image is chosen twice. The true classes take turns, so that no class fills the choice.
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
    """[true class, predicted class, number of images, share of the true class's images], the commonest first."""
    wrong = [cell for cell in confusion(predicted, labels) if cell[0] != cell[1]]
    commonest = sorted(wrong, key=lambda cell: cell[2], reverse=True)[:_MOST_MISTAKES]
    return [[*cell, cell[2] / int(np.sum(labels == cell[0]))] for cell in commonest]


def learning_curves(records: Sequence[Mapping[str, float]]) -> dict[str, dict[str, list[list[float]]]]:
    """The points [epoch, value] of records that `read_metrics` reads; of long curves every second, third ... one."""

    def points(name: str) -> list[list[float]]:
        of_name = [[record["epoch"], record[name]] for record in records if name in record]
        every = -(-len(of_name) // _MOST_POINTS) or 1
        return of_name[::-1][::every][::-1]  # The last record stays.

    return {name: {"training": points(name), "test": points(f"test_{name}")} for name in ("accuracy", "loss")}


def explained_images(
    model: Network,
    variables: Mapping[str, Any],
    dataset: Dataset,
    indices: np.ndarray,
    logits: np.ndarray,
    labels: np.ndarray,
    classes: int,
) -> list[dict[str, Any]]:
    """What the page shows of test images, given their `indices` [n], logits [n, K] and labels [n].

    `classes` is T, how many are explained: the most probable ones, and the true one if it is none of them. Each image
    has its `index`, `label` and PNG `source`, the `targets` [T], their `logits` and `probabilities`, whether any of the
    K classes is `recognised`, and for each of the L layers' inputs `maps`, the contribution maps [T, Hl, Wl] as
    little-endian float32 in base64, `positive` [L][T] and `negative` [L][T], what the positions above and below zero
    sum to, and `scales` [L], the contribution that is shown in full colour. `colours` [T] are the sources of the colour
    explanations, on white.
    """
    targets = np.argsort(-logits, axis=-1, kind="stable")[:, :classes]
    missing = ~(targets == labels[:, None]).any(-1)
    targets[missing, -1] = labels[missing]
    pixels = np.stack([dataset.test[int(index)]["image"] for index in indices])
    inputs = add_inverse(pixels.astype(np.float32) / 255)
    maps_of_layers = layer_maps(model, variables, inputs, targets, chunk_size=_AT_ONCE)
    by_layer = [np.asarray(maps, "<f4") for maps in maps_of_layers]
    rows = np.asarray(linear_weights(model, variables, inputs, targets, chunk_size=_AT_ONCE))
    recognised_images = recognised(logits)
    target_logits = np.take_along_axis(logits, targets, axis=-1)

    def colours(row: int, target: int) -> str:
        picture = colour_explanation(inputs[row], rows[row, target])
        on_white = 1 - picture[..., 3:] * (1 - picture[..., :3])
        return _image_source((255 * on_white).round().astype(np.uint8), "webp")

    return [
        {
            "index": int(index),
            "label": int(labels[row]),
            "source": _image_source(pixels[row], "png"),
            "targets": targets[row].tolist(),
            "recognised": bool(recognised_images[row]),
            "logits": target_logits[row].tolist(),
            # Never 0 or 1, which rounding makes of them.
            "probabilities": np.clip(jax.nn.sigmoid(target_logits[row]), 1e-7, 1 - 1e-7, dtype=np.float64).tolist(),
            "maps": [base64.b64encode(maps[row].tobytes()).decode() for maps in by_layer],
            "positive": [np.maximum(maps[row], 0).sum((1, 2)).tolist() for maps in by_layer],
            "negative": [np.minimum(maps[row], 0).sum((1, 2)).tolist() for maps in by_layer],
            "scales": [contribution_scale(maps[row]) for maps in by_layer],
            "colours": [colours(row, target) for target in range(classes)],
        }
        for row, index in enumerate(indices)
    ]


def _how_many(sizes: Sequence[tuple[int, int]], classes: int, room: int) -> tuple[int, int]:
    """How many images of each kind, and how many classes of each image, fit into so many bytes."""
    height, width = sizes[0]
    # Maps, of four bytes a value, as Base64, with their two sums; and a class's number, logit and probability, as text.
    of_class = sum(16 / 3 * h * w + 64 for h, w in sizes) + 80
    of_class += 4 / 3 * (height * width + 200)  # The colours, for which noise takes 0.9 bytes a pixel as WebP.
    # No PNG is much larger than its pixels; the rest is the image's card, with all its names escaped, and its scales.
    of_image = 4 * height * width * 1.01 + 4_000 + 25 * len(sizes)

    for shown in range(min(classes, _MOST_CLASSES), 0, -1):
        count = max(0, min(_MOST_OF_A_KIND, int(room // (of_image + shown * of_class) // len(_KINDS))))
        if count >= 3 or shown <= 2:  # Three images of a kind matter more than all classes.
            break
    return count, shown


def _figures(directory: Path, records: Records) -> list[dict[str, str]]:
    """Name, caption and source of the figures that are there, as SVG or PNG, whichever is smaller."""
    figures = []
    for metric, of_metric in records.items():
        paths = (directory / f"{metric}.{suffix}" for suffix in ("svg", "png"))
        file = min((path for path in paths if path.is_file()), key=lambda path: path.stat().st_size, default=None)
        if file and caption(of_metric) and file.stat().st_size <= _LARGEST_FIGURE:
            source = _source("svg+xml" if file.suffix == ".svg" else "png", file.read_bytes())
            figures.append({"name": metric, "caption": caption(of_metric), "source": source})
    return figures


def _render(page: Mapping[str, Any]) -> str:
    loader = PackageLoader(__package__, "")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = _percent
    return environment.get_template("template.html").render(page)


def _percent(probability: float) -> str:
    """With one decimal, and no certainty where there is none."""
    return "<0.1%" if 0 < probability < 0.001 else ">99.9%" if 0.999 < probability < 1 else f"{probability:.1%}"


def _image_source(image: np.ndarray, kind: str) -> str:
    """The source of an image, uint8 [H, W, RGB=3], whose file is of that kind."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, optimize=True, quality=80)
    return _source(kind, file.getvalue())


def _source(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
