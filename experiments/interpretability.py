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
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax
import jax
import numpy as np
from absl import flags

import coda_jax
from coda_jax import InputError
from coda_jax.files import as_json, replace_files
from coda_jax.report.measured import Results
from coda_jax.training.progress import Progress
from coda_jax.training.run_directory import check_writable
from experiments import command_line, figures, measurements
from experiments.measurements import Measurement, Run, open_run
from experiments.methods import METHODS, Method, refusal

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
    runs = sorted((open_run(workdir, _DATA_DIR.value) for workdir in workdirs), key=lambda run: run.temperature)
    _check_same_data(runs)
    tasks = [_prepare(run, alone=len(runs) == 1) for run in runs]
    _check_defined(tasks)
    known = [_read(run, of_run) for run, of_run in zip(runs, tasks, strict=True)]
    results = [_measure(run, *of_run) for run, *of_run in zip(runs, tasks, known, strict=True)]
    for run, of_run in zip(runs, results, strict=True):
        figures.draw_run(run, of_run, [method.label for method in _chosen_methods().values()])
    if out is not None:
        figures.draw_runs(out, runs, results)


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
            reason = refusal(name, run.model, run.variables, *task.measurement.example)
            if reason and _METHODS.value is not None and alone:
                raise InputError(f"{name} cannot explain this network for {metric}: {reason}")
            if reason:
                refused.setdefault(f"{name}: {reason}", []).append(metric)
            else:
                task.methods[name] = method
        tasks.append(task)
    for reason, metrics in refused.items():
        print(f"left out of {', '.join(metrics)} of {run.name}: {reason}")
    return tasks


def _path(run: Run, task: Task, method: str) -> Path:
    """The file of a metric's results of one method."""
    return run.results / f"{task.metric}-{task.measurement.examples}" / f"{method}.json"


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
    replace_files({run.results / "accuracy.json": as_json(record)})
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
                record = {"label": method.label, "produced_by": produced_by, **_timed(metric, method, measurement)}
                replace_files({path: as_json(record)})
            results[metric][method.label] = record["results"]
    return results


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


if __name__ == "__main__":
    command_line.run_without_config(main)
