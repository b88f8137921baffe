"""How interpretable a trained network is: the paper's metrics and more, for its own contributions and other methods.

    python -m experiments.interpretability --workdir=RUN
    python -m experiments.interpretability --workdir=RUN --methods=contributions,gradcam --metrics=localisation_3x3
    python -m experiments.interpretability --workdir=RUN10,RUN100,RUN1000 --out=DIR
    python -m experiments.interpretability --workdir=CODA_NET,RESNET --out=DIR

The first takes all metrics of all methods that are defined for the network; results and figures are in
RUN/interpretability. What has been measured is not measured again, so that a command that was interrupted goes on, and
a method can be added. The third and the fourth compare runs, in figures in DIR besides: over their temperature where
the networks differ in nothing else, and otherwise own contributions of CoDA-Nets and hybrids, of a hybrid's features
upsampled, with the other networks' post-hoc explanations, and the accuracy of those that explain themselves beside
how well they do.

    metric              what it says
    localisation_3x3    share of a class's positive attribution that falls on its own image in a grid of 3×3 images
    localisation_2x2    the same with grids of 2×2 (not taken unless asked for)
    pixel_removal       probability of the true class while the least, or the most, important pixels are removed
    completeness        by how much the attributions miss the logit that they should sum to
    randomisation       rank correlation of the maps with those after layers were randomised, which must differ

Cost: an hour or more for all methods of XS-CoDA on two CPU cores; docs/results.md has the times. The network's own
contributions alone take two minutes there.
"""

import difflib
import json
import math
import os
import time
from collections.abc import Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax
import jax
import numpy as np
from absl import flags

import coda_jax
from coda_jax import CoDANet, HybridNet, InputError
from coda_jax.contributions import contribution_map, layer_contributions
from coda_jax.files import as_json, replace_files
from coda_jax.plotting import curves, maps
from coda_jax.training.progress import Progress
from coda_jax.training.run_directory import check_writable
from experiments import command_line, measurements
from experiments.measurements import FRACTION, Measurement, Run, open_run
from experiments.methods import METHODS, Method

METRICS = ("localisation_3x3", "localisation_2x2", "pixel_removal", "completeness", "randomisation")
DEFAULT_METRICS = tuple(metric for metric in METRICS if metric != "localisation_2x2")

_WORKDIR = flags.DEFINE_list("workdir", None, "Directory of a finished run, or several with a comma between them.")
_METHODS = flags.DEFINE_list("methods", None, "Methods to measure; all that are defined for the network if not given.")
_METRICS = flags.DEFINE_list("metrics", None, "Metrics; all that the data allow but localisation_2x2 if not given.")
_GRIDS = flags.DEFINE_integer("grids", None, "Grids for localisation; 500, or as many as there are, if not given.", 1)
_IMAGES = flags.DEFINE_integer("images", 1024, "Test images for pixel removal.", 1)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Directory of the data; that of the training if not given.")
_OUT = flags.DEFINE_string("out", None, "Directory of the figures that compare several runs.")
flags.mark_flag_as_required("workdir")

_SHOWN_IMAGES = 6

# By metric and method, what `Measurement.measure` returned.
Results = dict[str, dict[str, Any]]


def main() -> None:
    """Measure the runs in `--workdir` and draw the figures."""
    workdirs = [command_line.as_directory("workdir", workdir) for workdir in _WORKDIR.value or [""]]
    if len(workdirs) > 1 and _OUT.value is None:
        raise InputError("several runs need --out=DIR, a directory for the figures that compare them")
    out = command_line.as_directory("out", _OUT.value) if len(workdirs) > 1 else None
    for directory in [workdir / "interpretability" for workdir in workdirs] + ([] if out is None else [out]):
        check_writable(directory)
    if _METRICS.value is not None:
        _check_names("metric", _METRICS.value, METRICS)
    if _METHODS.value is not None:
        _check_names("method", _METHODS.value, list(METHODS))
    for index, workdir in enumerate(workdirs):
        if workdir.resolve() in [other.resolve() for other in workdirs[:index]]:
            raise InputError(f"{workdir} is named twice")
    # CoDA-Nets come first in figures, by their temperatures.
    runs = sorted((open_run(workdir, _DATA_DIR.value) for workdir in workdirs), key=_temperature)
    _check_same_data(runs)
    tasks = [_prepare(run, alone=len(runs) == 1) for run in runs]
    _check_defined(tasks)
    known = [_read(run, of_run) for run, of_run in zip(runs, tasks, strict=True)]
    results = [_measure(run, *of_run) for run, *of_run in zip(runs, tasks, known, strict=True)]
    for run, of_run in zip(runs, results, strict=True):
        _draw(run, of_run)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        if _differ_in_temperature(runs):
            _draw_sweep(out, runs, results)
        else:
            _draw_comparison(out, runs, results)


def _temperature(run: Run) -> float:
    """T of a CoDA-Net, and infinity for other networks."""
    return run.model.temperature if isinstance(run.model, CoDANet) else math.inf


def _differ_in_temperature(runs: Sequence[Run]) -> bool:
    """Whether all networks are CoDA-Nets that are the same but for their temperatures, of which no two are."""
    distinct = len({_temperature(run) for run in runs}) == len(runs)
    same = all(isinstance(run.model, CoDANet) for run in runs)
    return distinct and same and len({run.model.clone(temperature=1.0) for run in runs}) == 1


def _check_same_data(runs: Sequence[Run]) -> None:
    for run in runs[1:]:
        if run.config["dataset"] != runs[0].config["dataset"] or run.dataset.info != runs[0].dataset.info:
            raise InputError(f"{runs[0].workdir} and {run.workdir} cannot be compared: they are runs on different data")


def _check_defined(tasks: Sequence[Sequence["Task"]]) -> None:
    """Raise InputError for a method that was asked for, and is defined for none of the runs."""
    defined = {name for of_run in tasks for task in of_run for name in task.methods}
    for name in _METHODS.value or ():
        if name not in defined and any(tasks):
            raise InputError(f"{name} can explain none of these networks, as said above")


def _check_names(kind: str, names: Sequence[str], known: Sequence[str]) -> None:
    if not names:
        raise InputError(f"no {kind} is named: there are {', '.join(known)}")
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}? There" if near else "there"
            raise InputError(f"there is no {kind} {name!r}: {hint} are {', '.join(known)}")


def _chosen_methods() -> dict[str, Method]:
    """The methods that were asked for, or all."""
    return {name: method for name, method in METHODS.items() if _METHODS.value is None or name in _METHODS.value}


def _refusal(run: Run, name: str, inputs: jax.Array, targets: np.ndarray) -> str | None:
    """Why a method is not defined for such inputs of the network, or None if it is."""
    if name == "lime":  # It is defined for every function, but its superpixels cannot be traced.
        return None
    try:
        jax.eval_shape(partial(METHODS[name].explain, run.model), run.variables, inputs, targets)
    except InputError as error:
        return str(error)
    return None


class Task(NamedTuple):
    """A metric, ready to be taken, and the methods of which it will be."""

    metric: str
    measurement: Measurement
    methods: dict[str, Method]


def _prepare(run: Run, alone: bool) -> list[Task]:
    """What was asked for; raises InputError for what cannot be done, but where the run is not alone skips methods."""
    prepare = {
        "localisation_3x3": lambda: measurements.localisation(run, 3, _GRIDS.value),
        "localisation_2x2": lambda: measurements.localisation(run, 2, _GRIDS.value),
        "pixel_removal": lambda: measurements.pixel_removal(run, _IMAGES.value),
        "completeness": lambda: measurements.completeness(run),
        "randomisation": lambda: measurements.randomisation(run),
    }
    tasks, refused = [], {}
    for metric in METRICS:
        if metric not in (DEFAULT_METRICS if _METRICS.value is None else _METRICS.value):
            continue
        try:
            task = Task(metric, prepare[metric](), {})
        except InputError as error:
            if _METRICS.value is not None or _GRIDS.value is not None:
                raise
            print(f"left out: {metric}: {error}")
            continue
        for name, method in _chosen_methods().items():
            refusal = _refusal(run, name, *task.measurement.example)
            if refusal and _METHODS.value is not None and alone:
                raise InputError(f"{name} cannot explain this network for {metric}: {refusal}")
            if refusal:
                refused.setdefault(f"{name}: {refusal}", []).append(metric)
            else:
                task.methods[name] = method
        tasks.append(task)
    for reason, metrics in refused.items():
        print(f"left out of {', '.join(metrics)} of {run.name}: {reason}")
    return tasks


def _path(run: Run, task: Task, method: str) -> Path:
    """The file of a metric's results of one method."""
    return _directory(run) / f"{task.metric}-{task.measurement.examples}" / f"{method}.json"


def _read(run: Run, tasks: Sequence[Task]) -> dict[Path, Any]:
    """What has been measured, by file; raises InputError for a damaged one, before hours are spent on the others."""
    records = {}
    for task in tasks:
        for method in task.methods:
            path = _path(run, task, method)
            check_writable(path.parent)
            if os.path.lexists(path):
                try:
                    records[path] = json.loads(path.read_text())
                    _ = records[path]["produced_by"], records[path]["results"]
                except (OSError, ValueError, KeyError, TypeError) as error:
                    raise InputError(f"{path} is damaged ({error}): delete it to have it measured again") from error
    return records


def _measure(run: Run, tasks: Sequence[Task], known: dict[Path, Any]) -> Results:
    """The results of all tasks, of which those in `known` with the same settings are not measured again."""
    print(f"measuring {run.workdir}")
    about_run = {"model": run.config["model"], "dataset": run.config["dataset"], "step": run.step}
    accuracy = {"accuracy": float(np.mean(run.logits.argmax(-1) == run.labels)), "images": len(run.labels)}
    record = {"produced_by": {"run": about_run}, "results": accuracy}
    replace_files({_directory(run) / "accuracy.json": as_json(record)})
    results = {}
    for task in tasks:
        metric, measurement, methods = task
        results[metric] = {}
        for name, method in methods.items():
            path = _path(run, task, name)
            produced_by = {
                "metric": {"name": metric, **measurement.settings},
                "method": {"name": name, **method.settings},
                "run": about_run,
            }
            if path in known and known[path]["produced_by"] == produced_by:
                record = known[path]
                print(f"{metric} of {method.label}: measured before")
            else:
                record = {"produced_by": produced_by, **_timed(metric, method, measurement)}
                path.parent.mkdir(parents=True, exist_ok=True)
                unfinished = path.with_suffix(".unfinished")
                unfinished.write_text(json.dumps(record, indent=1) + "\n")
                unfinished.replace(path)
            results[metric][method.label] = record["results"]
    return results


def _directory(run: Run) -> Path:
    return run.workdir / "interpretability"


def _timed(metric: str, method: Method, measurement: Measurement) -> dict[str, Any]:
    """The results of one method with the time they took and the versions that made them."""
    progress = Progress(measurement.total, unit=measurement.unit)
    done, told, started = 0, time.monotonic(), time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, told
        done += count
        progress.advance(count)
        if time.monotonic() - told > 30:
            progress.tell(f"{metric} of {method.label}: {done} of {measurement.total} {measurement.unit}")
            told = time.monotonic()

    progress.tell(f"{metric} of {method.label}")
    results = measurement.measure(method, advance)
    seconds = time.monotonic() - started
    progress.close()
    print(f"{metric} of {method.label}: done in {seconds:.0f} s", flush=True)
    return {
        "seconds": round(seconds, 1),
        "device": jax.devices()[0].device_kind,
        "versions": {module.__name__: module.__version__ for module in (coda_jax, jax, flax, np)},
        "results": results,
    }


def _draw(run: Run, results: Results) -> None:
    """Draw the figures of one run, and write and print the table."""
    directory = _directory(run)
    directory.mkdir(parents=True, exist_ok=True)
    _draw_metrics(directory, results)
    if of_metric := results.get("randomisation"):
        layers = next(iter(of_metric.values()))["layers"]
        similarities = {label: of_method["rank_correlation"] for label, of_method in of_metric.items()}
        curves.similarity_curves(directory / "randomisation", layers, similarities)
    _draw_maps(run)
    table = _table(results)
    (directory / "table.md").write_text(table)
    print(f"\n{table}\nfigures and results: {directory}")


def _draw_metrics(directory: Path, results: Results) -> None:
    """Draw localisation and pixel removal."""
    for side in (2, 3):
        if of_metric := results.get(f"localisation_{side}x{side}"):
            scores = {label: np.array(of_method["scores"]) for label, of_method in of_metric.items()}
            curves.localisation_boxes(directory / f"localisation_{side}x{side}", scores, side**2)
    if of_metric := results.get("pixel_removal"):
        by_order = {
            order: {label: np.array(of_method[order]["curve"]) for label, of_method in of_metric.items()}
            for order in ("least", "most")
        }
        curves.removal_curves(directory / "pixel_removal", by_order, FRACTION)


def _draw_maps(run: Run) -> None:
    """Draw the first test images that are classified correctly: by all methods, and one of them layer by layer."""
    shown = _shown_images([run])
    if not shown.size:
        return
    images, inputs, targets = run.images(shown), run.inputs(shown), run.labels[shown, None]
    names = [run.dataset.info.class_names[target] for target in targets[:, 0]]
    by_method = _maps_by_method(run, shown, [method.label for method in _chosen_methods().values()])
    maps.attribution_sheet(_directory(run) / "methods", images, by_method, names, "Attributions to the true class")
    if not isinstance(run.model, CoDANet | HybridNet):
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
    maps.layer_sheet(_directory(run) / "layers", images[0], by_layer, layers, names[0], logit, run.model.logit_bias)


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
        if method.label in labels and _refusal(run, name, inputs, targets) is None
    }


# Column titles of the table, and where their numbers are.
_COLUMNS = {
    "test accuracy": ("accuracy", "test"),
    "localisation 3×3, mean": ("localisation_3x3", "mean"),
    "median": ("localisation_3x3", "median"),
    "localisation 2×2, mean": ("localisation_2x2", "mean"),
    "p(true), whole image": ("pixel_removal", "least", "curve", 0),
    "5% least important removed": ("pixel_removal", "least", "after_5_percent"),
    "25% least": ("pixel_removal", "least", "after_25_percent"),
    "5% most": ("pixel_removal", "most", "after_5_percent"),
    "25% most": ("pixel_removal", "most", "after_25_percent"),
    "completeness residual, median": ("completeness", "median"),
    "rank correlation, all layers randomised": ("randomisation", "rank_correlation", -1),
}


def _number(results: Results, label: str, path: Sequence[str | int]) -> float | None:
    """What is at `path`, the metric and keys below the method, or None where it was not measured."""
    metric, *keys = path
    value = results.get(metric, {}).get(label)
    for key in keys:
        value = None if value is None else value[key]
    return value


def _table(results: Results) -> str:
    """The numbers of all methods, as a table in Markdown."""
    labels = list(dict.fromkeys(label for of_metric in results.values() for label in of_metric))
    columns = {title: path for title, path in _COLUMNS.items() if path[0] in results}
    rows = [["method", *columns], ["---"] * (1 + len(columns))]
    for label in labels:
        numbers = (_number(results, label, path) for path in columns.values())
        rows.append([label, *("–" if number is None else f"{number:.3g}" for number in numbers)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _draw_sweep(directory: Path, runs: Sequence[Run], results: Sequence[Results]) -> None:
    """Draw the metrics of all runs with their temperatures on the axis."""
    temperatures = [_temperature(run) for run in runs]
    for side in (2, 3):
        metric = f"localisation_{side}x{side}"
        if all("contributions" in of_run.get(metric, {}) for of_run in results):
            scores, logits = (
                [np.array(of_run[metric]["contributions"][key]) for of_run in results] for key in ("scores", "logits")
            )
            path = directory / f"{metric}_of_contributions"
            curves.localisation_by_temperature(path, temperatures, scores, side**2)
            by_logit = directory / f"{metric}_by_logit"
            curves.localisation_by_logit(by_logit, temperatures, logits, scores, side**2)
    for name, path in (
        ("localisation_3x3", ("localisation_3x3", "mean")),
        ("localisation_2x2", ("localisation_2x2", "mean")),
        ("pixel_removal", ("pixel_removal", "least", "after_25_percent")),
    ):
        of_metric = {
            label: [_number(of_run, label, path) for of_run in results]
            for label in results[0].get(path[0], {})
            if all(_number(of_run, label, path) is not None for of_run in results)
        }
        if of_metric:
            title = {"mean": "mean localisation", "after_25_percent": "p(true) after 25% least important removed"}
            curves.metric_by_temperature(directory / name, temperatures, of_metric, title[path[-1]])
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
        maps.attribution_sheet(directory / "methods", runs[0].images(shown), drawn, classes, title)
    table = _table(merged) + _grids(names, results)
    (directory / "table.md").write_text(table)
    print(f"\n{table}\nfigures that compare the networks: {directory}")


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
        title: [_number(merged, f"{own} of {name}", _COLUMNS[column]) for name in names]
        for title, column in columns.items()
    }
    values = {title: numbers for title, numbers in values.items() if None not in numbers}
    if len(names) > 1:
        curves.metrics_by_network(directory / "networks", names, values)


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


if __name__ == "__main__":
    command_line.run_without_config(main)
