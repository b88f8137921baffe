"""The figures and tables of what was measured of one run, or of several beside one another."""

import math
from collections.abc import Sequence, Set
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np

from coda_jax.contributions import contribution_map, explain
from coda_jax.report.measured import Records, table
from experiments import plots
from experiments.measurements import Run
from experiments.methods import METHODS, explains_itself, of_features, refusal
from experiments.metrics import METRICS

_SHOWN_IMAGES = 6
_OWN = METHODS["contributions"].label


def draw_run(run: Run, records: Records, methods: Sequence[str]) -> None:
    """Draw the figures of one run, and write and print the table; all into its directory of results.

    Args:
        run: what was measured.
        records: what was found.
        methods: labels of those whose maps are drawn.
    """
    directory = run.results
    directory.mkdir(parents=True, exist_ok=True)
    _draw_metrics(directory, records)
    _draw_maps(run, methods)
    text = _table(records)
    (directory / "table.md").write_text(text)
    print(f"\n{text}\nfigures and results: {directory}")


def draw_runs(directory: Path, runs: Sequence[Run], records: Sequence[Records]) -> None:
    """Draw the figures that compare runs: over their temperature where they differ in nothing else.

    Args:
        directory: where the figures are left; it is made.
        runs: what was measured, in the order of the figures.
        records: what was found of each run.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if _differ_in_temperature(runs):
        _draw_sweep(directory, runs, records)
    else:
        _draw_comparison(directory, runs, records)


def _differ_in_temperature(runs: Sequence[Run]) -> bool:
    """Whether all networks are CoDA-Nets that are the same but for their temperatures, of which no two are."""
    temperatures = {run.temperature for run in runs}
    if len(temperatures) < len(runs) or math.inf in temperatures:
        return False
    return len({run.model.clone(temperature=1.0) for run in runs}) == 1


def _results(records: Records, metric: str) -> dict[str, Any]:
    """What was found by a metric, by label of the method; empty where it was not taken."""
    return {label: record["results"] for label, record in records.get(metric, {}).items()}


def _number(records: Records, metric: str, label: str, *keys: str) -> float | None:
    """The number at these keys in the results of a method; None where it was not measured."""
    results = _results(records, metric)
    return reduce(getitem, keys, results[label]) if label in results else None


def _draw_metrics(directory: Path, records: Records) -> None:
    """Draw the figure of every metric that has one."""
    for name, metric in METRICS.items():
        if metric.draw and records.get(name):
            metric.draw(directory / name, _results(records, name))


def _draw_maps(run: Run, methods: Sequence[str]) -> None:
    """Draw the first test images that are classified correctly: by all methods, and one of them layer by layer."""
    shown = _shown_images([run])
    if not shown.size:
        return
    names = [run.dataset.info.class_names[label] for label in run.labels[shown]]
    images, by_method = run.images(shown), _maps_by_method(run, shown, methods)
    plots.attribution_sheet(run.results / "methods", images, by_method, names)
    if not explains_itself(run.model):
        return
    inputs, target, count = run.inputs(shown[:1]), run.labels[shown[:1]], len(run.model.channels)
    by_layer = [explain(run.model, run.variables, inputs, target, layer=layer) for layer in range(count + 1)]
    layers = [f"input of layer {layer}" for layer in range(count)] + ["input of the head"]
    if of_features(by_layer[0].contributions, inputs):
        layers[0], layers[-1] = "features", "what is summed"
    maps = [np.asarray(contribution_map(explanation.contributions)[0, 0]) for explanation in by_layer]
    logit = float(by_layer[0].logits[0, target[0]])
    plots.layer_sheet(run.results / "layers", images[0], maps, layers, names[0], logit, run.model.logit_bias)


def _shown_images(runs: Sequence[Run]) -> np.ndarray:
    """Indices of the first test images that all networks classify correctly."""
    right = np.all([run.logits.argmax(-1) == run.labels for run in runs], axis=0)
    return np.flatnonzero(right)[:_SHOWN_IMAGES]


def _maps_by_method(run: Run, shown: np.ndarray, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """The maps [n, H, W] of the true classes of test images by the methods with these labels, as far as defined."""
    inputs, targets = run.inputs(shown), run.labels[shown, None]
    return {
        method.label: np.asarray(contribution_map(method.explain(run.model, run.variables, inputs, targets))[:, 0])
        for name, method in METHODS.items()
        if method.label in labels and refusal(name, run.model, run.variables, inputs, targets, run.side) is None
    }


def _table(records: Records) -> str:
    """The numbers of all methods, as a table in Markdown."""
    titles, *numbers = table(records)
    return "".join(f"| {' | '.join(row)} |\n" for row in (titles, ["---"] * len(titles), *numbers))


def _draw_sweep(directory: Path, runs: Sequence[Run], records: Sequence[Records]) -> None:
    """Draw the metrics of all runs with their temperatures on the axis."""
    temperatures = [run.temperature for run in runs]
    for metric in ("localisation_2x2", "localisation_3x3"):
        of_runs = [_results(of_run, metric).get(_OWN) for of_run in records]
        if None not in of_runs:
            scores, logits = ([np.array(of_run[key]) for of_run in of_runs] for key in ("scores", "logits"))
            cells = scores[0].shape[1]
            plots.localisation_by_temperature(directory / f"{metric}_of_{_OWN}", temperatures, scores, cells)
            plots.localisation_by_logit(directory / f"{metric}_by_logit", temperatures, logits, scores, cells)
    for title, metric, *keys in (
        ("mean localisation", "localisation_2x2", "mean"),
        ("mean localisation", "localisation_3x3", "mean"),
        ("p(true) after 25% least important removed", "pixel_removal", "least", "after_25_percent"),
    ):
        by_method = {
            label: [_number(of_run, metric, label, *keys) for of_run in records] for label in records[0].get(metric, {})
        }
        by_method = {label: numbers for label, numbers in by_method.items() if None not in numbers}
        if by_method:
            plots.metric_by_temperature(directory / metric, temperatures, by_method, title)
    print(f"figures over the temperature: {directory}")


def _draw_comparison(directory: Path, runs: Sequence[Run], records: Sequence[Records]) -> None:
    """Draw the metrics of all networks, of a CoDA-Net those of its own contributions, and write and print the table."""
    names = [run.model.title for run in runs]
    names = [
        name if names.count(name) == 1 else f"{name} in {run.workdir.name}"
        for name, run in zip(names, runs, strict=True)
    ]
    merged: Records = {"accuracy": {}}
    shown, drawn = _shown_images(runs), {}
    for name, run, of_run in zip(names, runs, records, strict=True):
        methods = _telling({label for of_metric in of_run.values() for label in of_metric})
        accuracy = {"columns": {"test accuracy": ["test"]}, "results": {"test": run.accuracy}}
        for metric, of_metric in {"accuracy": dict.fromkeys(methods, accuracy), **of_run}.items():
            of_methods = {f"{label} of {name}": of_metric[label] for label in methods if label in of_metric}
            merged.setdefault(metric, {}).update(of_methods)
        if shown.size:
            by_method = _maps_by_method(run, shown, methods)
            drawn |= {f"{label}\nof {name}": of_method for label, of_method in by_method.items()}
    _draw_metrics(directory, merged)
    _draw_trade_off(directory, names, merged)
    if drawn:
        classes = [runs[0].dataset.info.class_names[label] for label in runs[0].labels[shown]]
        plots.attribution_sheet(directory / "methods", runs[0].images(shown), drawn, classes)
    text = _table(merged) + _grids(names, records)
    (directory / "table.md").write_text(text)
    print(f"\n{text}\nfigures that compare the networks: {directory}")


def _draw_trade_off(directory: Path, names: Sequence[str], merged: Records) -> None:
    """Draw the accuracy of the networks that explain themselves, and how well they do, in the order of the runs."""
    names = [name for name in names if f"{_OWN} of {name}" in merged["accuracy"]]
    if len(names) < 2:
        return
    values = {
        title: [_number(merged, metric, f"{_OWN} of {name}", *keys) for name in names]
        for title, metric, *keys in (
            ("test accuracy", "accuracy", "test"),
            ("mean localisation 3×3", "localisation_3x3", "mean"),
            ("mean localisation 2×2", "localisation_2x2", "mean"),
            ("p(true), 25% least important removed", "pixel_removal", "least", "after_25_percent"),
        )
    }
    values = {title: numbers for title, numbers in values.items() if None not in numbers}
    plots.metrics_by_network(directory / "networks", names, values)


def _grids(names: Sequence[str], records: Sequence[Records]) -> str:
    """How many grids the localisation of each network is measured on, or nothing where it is not."""
    text = ""
    for side in (3, 2):
        of_runs = [_results(of_run, f"localisation_{side}x{side}") for of_run in records]
        counts = [
            f"{len(next(iter(results.values()))['scores'])} of {name}"
            for name, results in zip(names, of_runs, strict=True)
            if results
        ]
        if counts:
            text += f"\nGrids of {side}×{side}, each of the network's own confident images: {', '.join(counts)}.\n"
    return text


def _telling(labels: Set[str]) -> list[str]:
    """Those of a network's own contributions, or all where there are none, in the order of `METHODS`."""
    known = [method.label for method in METHODS.values() if method.label in labels]
    return [label for label in known if label.startswith(_OWN)] or known
