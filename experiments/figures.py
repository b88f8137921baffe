"""The figures and tables of what was measured of one run, or of several beside one another."""

from collections.abc import Sequence, Set
from pathlib import Path

import numpy as np

from coda_jax import CoDANet, HybridNet
from coda_jax.contributions import contribution_map, layer_contributions
from coda_jax.report.measured import COLUMNS, Results, number, table
from experiments import plots
from experiments.measurements import FRACTION, Run
from experiments.methods import METHODS, refusal

_SHOWN_IMAGES = 6


def draw_run(run: Run, results: Results, methods: Sequence[str]) -> None:
    """Draw the figures of one run, and write and print the table; all into its directory of results.

    Args:
        run: what was measured.
        results: what was found.
        methods: labels of those whose maps are drawn.
    """
    directory = run.results
    directory.mkdir(parents=True, exist_ok=True)
    _draw_metrics(directory, results)
    if of_metric := results.get("randomisation"):
        layers = next(iter(of_metric.values()))["layers"]
        similarities = {label: of_method["rank_correlation"] for label, of_method in of_metric.items()}
        plots.similarity_curves(directory / "randomisation", layers, similarities)
    _draw_maps(run, methods)
    text = _table(results)
    (directory / "table.md").write_text(text)
    print(f"\n{text}\nfigures and results: {directory}")


def draw_runs(directory: Path, runs: Sequence[Run], results: Sequence[Results]) -> None:
    """Draw the figures that compare runs: over their temperature where they differ in nothing else.

    Args:
        directory: where the figures are left; it is made.
        runs: what was measured, in the order of the figures.
        results: what was found of each run.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if _differ_in_temperature(runs):
        _draw_sweep(directory, runs, results)
    else:
        _draw_comparison(directory, runs, results)


def _differ_in_temperature(runs: Sequence[Run]) -> bool:
    """Whether all networks are CoDA-Nets that are the same but for their temperatures, of which no two are."""
    distinct = len({run.temperature for run in runs}) == len(runs)
    same = all(isinstance(run.model, CoDANet) for run in runs)
    return distinct and same and len({run.model.clone(temperature=1.0) for run in runs}) == 1


def _draw_metrics(directory: Path, results: Results) -> None:
    """Draw localisation and pixel removal."""
    for side in (2, 3):
        if of_metric := results.get(f"localisation_{side}x{side}"):
            scores = {label: np.array(of_method["scores"]) for label, of_method in of_metric.items()}
            plots.localisation_boxes(directory / f"localisation_{side}x{side}", scores, side**2)
    if of_metric := results.get("pixel_removal"):
        by_order = {
            order: {label: np.array(of_method[order]["curve"]) for label, of_method in of_metric.items()}
            for order in ("least", "most")
        }
        plots.removal_curves(directory / "pixel_removal", by_order, FRACTION)


def _draw_maps(run: Run, methods: Sequence[str]) -> None:
    """Draw the first test images that are classified correctly: by all methods, and one of them layer by layer."""
    shown = _shown_images([run])
    if not shown.size:
        return
    images, inputs, targets = run.images(shown), run.inputs(shown), run.labels[shown, None]
    names = [run.dataset.info.class_names[target] for target in targets[:, 0]]
    by_method = _maps_by_method(run, shown, methods)
    plots.attribution_sheet(run.results / "methods", images, by_method, names, "Attributions to the true class")
    if not hasattr(run.model, "decompose"):
        return
    one, target = inputs[:1], targets[:1]
    by_layer = [
        np.asarray(contribution_map(layer_contributions(run.model, run.variables, one, target, layer))[0, 0])
        for layer in range(len(run.model.channels) + 1)
    ]
    layers = [f"input of layer {layer}" for layer in range(len(by_layer) - 1)] + ["input of the head"]
    if isinstance(run.model, HybridNet):
        layers[0], layers[-1] = "features", "what is summed"
    logit = run.logits[shown[0], targets[0, 0]]
    plots.layer_sheet(run.results / "layers", images[0], by_layer, layers, names[0], logit, run.model.logit_bias)


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
        if method.label in labels and refusal(name, run.model, run.variables, inputs, targets) is None
    }


def _table(results: Results) -> str:
    """The numbers of all methods, as a table in Markdown."""
    titles, *numbers = table(results)
    return "".join(f"| {' | '.join(row)} |\n" for row in (titles, ["---"] * len(titles), *numbers))


def _draw_sweep(directory: Path, runs: Sequence[Run], results: Sequence[Results]) -> None:
    """Draw the metrics of all runs with their temperatures on the axis."""
    temperatures = [run.temperature for run in runs]
    for side in (2, 3):
        metric = f"localisation_{side}x{side}"
        if all("contributions" in of_run.get(metric, {}) for of_run in results):
            scores, logits = (
                [np.array(of_run[metric]["contributions"][key]) for of_run in results] for key in ("scores", "logits")
            )
            path = directory / f"{metric}_of_contributions"
            plots.localisation_by_temperature(path, temperatures, scores, side**2)
            by_logit = directory / f"{metric}_by_logit"
            plots.localisation_by_logit(by_logit, temperatures, logits, scores, side**2)
    for name, path in (
        ("localisation_3x3", ("localisation_3x3", "mean")),
        ("localisation_2x2", ("localisation_2x2", "mean")),
        ("pixel_removal", ("pixel_removal", "least", "after_25_percent")),
    ):
        of_metric = {
            label: [number(of_run, label, path) for of_run in results]
            for label in results[0].get(path[0], {})
            if all(number(of_run, label, path) is not None for of_run in results)
        }
        if of_metric:
            title = {"mean": "mean localisation", "after_25_percent": "p(true) after 25% least important removed"}
            plots.metric_by_temperature(directory / name, temperatures, of_metric, title[path[-1]])
    print(f"figures over the temperature: {directory}")


def _draw_comparison(directory: Path, runs: Sequence[Run], results: Sequence[Results]) -> None:
    """Draw the metrics of all networks, of a CoDA-Net those of its own contributions, and write and print the table."""
    names = [run.name for run in runs]
    names = [
        name if names.count(name) == 1 else f"{name} in {run.workdir.name}"
        for name, run in zip(names, runs, strict=True)
    ]
    merged: Results = {}
    shown, drawn = _shown_images(runs), {}
    for name, run, of_run in zip(names, runs, results, strict=True):
        methods = _telling({label for of_metric in of_run.values() for label in of_metric})
        for metric, of_metric in of_run.items():
            of_methods = {f"{label} of {name}": of_metric[label] for label in methods if label in of_metric}
            merged.setdefault(metric, {}).update(of_methods)
        accuracy = {"test": float(np.mean(run.logits.argmax(-1) == run.labels))}
        merged.setdefault("accuracy", {}).update({f"{label} of {name}": accuracy for label in methods})
        if shown.size:
            by_method = _maps_by_method(run, shown, methods)
            drawn |= {f"{label}\nof {name}": of_method for label, of_method in by_method.items()}
    _draw_metrics(directory, merged)
    _draw_trade_off(directory, names, merged)
    if drawn:
        classes = [runs[0].dataset.info.class_names[label] for label in runs[0].labels[shown]]
        title = "Attributions to the true class"
        plots.attribution_sheet(directory / "methods", runs[0].images(shown), drawn, classes, title)
    text = _table(merged) + _grids(names, results)
    (directory / "table.md").write_text(text)
    print(f"\n{text}\nfigures that compare the networks: {directory}")


def _draw_trade_off(directory: Path, names: Sequence[str], merged: Results) -> None:
    """Draw the accuracy of the networks that explain themselves, and how well they do, in the order of the runs."""
    own = METHODS["contributions"].label
    names = [name for name in names if f"{own} of {name}" in merged["accuracy"]]
    columns = {
        "test accuracy": "test accuracy",
        "mean localisation 3×3": "localisation 3×3, mean",
        "mean localisation 2×2": "localisation 2×2, mean",
        "p(true), 25% least important removed": "25% least",
    }
    values = {
        title: [number(merged, f"{own} of {name}", COLUMNS[column]) for name in names]
        for title, column in columns.items()
    }
    values = {title: numbers for title, numbers in values.items() if None not in numbers}
    if len(names) > 1:
        plots.metrics_by_network(directory / "networks", names, values)


def _grids(names: Sequence[str], results: Sequence[Results]) -> str:
    """How many grids the localisation of each network is measured on, or nothing where it is not."""
    lines = []
    for side in (3, 2):
        counts = [
            f"{len(next(iter(of_metric.values()))['scores'])} of {name}"
            for name, of_run in zip(names, results, strict=True)
            if (of_metric := of_run.get(f"localisation_{side}x{side}"))
        ]
        if counts:
            lines.append(
                f"\nGrids of {side}×{side}, each of the network's own confident images: {', '.join(counts)}.\n"
            )
    return "".join(lines)


def _telling(labels: Set[str]) -> list[str]:
    """Those of a network's own contributions, or all where there are none, in the order of `METHODS`."""
    known = [method.label for method in METHODS.values() if method.label in labels]
    return [label for label in known if label.startswith("contributions")] or known
