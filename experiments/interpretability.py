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

docs/interpretability.md says what the metrics are, and what is good.

Cost: an hour or more for all methods of XS-CoDA on two CPU cores; docs/results.md has the times. The network's own
contributions alone take two minutes there.
"""

import difflib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax
import jax
import numpy as np
from absl import flags

import coda_jax
from coda_jax import InputError
from coda_jax.errors.files import as_json, replace_files
from coda_jax.report.measured import Records
from coda_jax.training.progress import Progress
from coda_jax.training.run_directory import check_writable
from experiments import command_line, figures
from experiments.measurements import Measurement, Run, open_run
from experiments.methods import METHODS, Method, refusal
from experiments.metrics import METRICS

_WORKDIR = flags.DEFINE_list("workdir", None, "Directory of a finished run, or several with a comma between them.")


def _left_out(entries: Mapping[str, Any]) -> str:
    return ", ".join(name for name, entry in entries.items() if not entry.default)


_METHODS = flags.DEFINE_list(
    "methods",
    None,
    f"Those to measure of {', '.join(METHODS)}; all that are defined for the network but {_left_out(METHODS)} if not "
    "given.",
)
_METRICS = flags.DEFINE_list(
    "metrics", None, f"Those of {', '.join(METRICS)}; all that the data allow but {_left_out(METRICS)} if not given."
)
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
    _check_names("metric", _METRICS.value, METRICS)
    _check_names("method", _METHODS.value, METHODS)
    for index, workdir in enumerate(workdirs):
        if workdir.resolve() in [other.resolve() for other in workdirs[:index]]:
            raise InputError(f"{workdir} is named twice")
    # CoDA-Nets come first in figures, by their temperatures.
    runs = sorted((open_run(workdir, _DATA_DIR.value) for workdir in workdirs), key=lambda run: run.temperature)
    for run in runs[1:]:
        if run.config["dataset"] != runs[0].config["dataset"] or run.dataset.info != runs[0].dataset.info:
            raise InputError(f"{runs[0].workdir} and {run.workdir} cannot be compared: they are runs on different data")
    tasks = [_prepare(run, alone=len(runs) == 1) for run in runs]
    defined = {task.method.label for of_run in tasks for task in of_run}
    for name in _METHODS.value or ():
        if METHODS[name].label not in defined:
            raise InputError(f"{name} can explain none of these networks, as said above")
    records = [_measure(run, of_run) for run, of_run in zip(runs, tasks, strict=True)]
    for run, of_run in zip(runs, records, strict=True):
        figures.draw_run(run, of_run, [method.label for method in _chosen_methods().values()])
    if out is not None:
        figures.draw_runs(out, runs, records)


def _check_names(kind: str, names: Sequence[str] | None, known: Mapping[str, Any]) -> None:
    """Raise InputError for names that are given, but are not known."""
    if names == []:
        raise InputError(f"no {kind} is named: there are {', '.join(known)}")
    for name in names or ():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}? There" if near else "there"
            raise InputError(f"there is no {kind} {name!r}: {hint} are {', '.join(known)}")


def _chosen_methods() -> dict[str, Method]:
    """The methods that were asked for, or those by default."""
    asked = _METHODS.value
    return {name: method for name, method in METHODS.items() if (method.default if asked is None else name in asked)}


class Task(NamedTuple):
    """A metric to be taken of a method, and the record that is in the file already, which may be empty."""

    metric: str
    measurement: Measurement
    method: Method
    path: Path
    produced_by: dict[str, Any]
    before: dict[str, Any]


def _prepare(run: Run, alone: bool) -> list[Task]:
    """What was asked for; raises InputError for what cannot be done, but where the run is not alone skips methods."""
    tasks, refused = [], {}
    for metric in METRICS:
        if not (METRICS[metric].default if _METRICS.value is None else metric in _METRICS.value):
            continue
        try:
            measurement = METRICS[metric].prepare(run, _GRIDS.value, _IMAGES.value)
        except InputError as error:
            if _METRICS.value is not None or _GRIDS.value is not None:
                raise
            print(f"left out: {metric}: {error}")
            continue
        for name, method in _chosen_methods().items():
            reason = measurement.refuse(method) or refusal(
                name, run.model, run.variables, *measurement.example, run.side
            )
            if reason and _METHODS.value is not None and alone:
                raise InputError(f"{name} cannot explain this network for {metric}: {reason}")
            if reason:
                refused.setdefault(f"{name}: {reason}", []).append(metric)
                continue
            path = run.results / f"{metric}-{measurement.examples}" / f"{name}.json"
            produced_by = {
                "metric": {"name": metric, **measurement.settings},
                "method": {"name": name, **method.settings},
                "run": run.about,
            }
            tasks.append(Task(metric, measurement, method, path, produced_by, _read(path)))
    for reason, metrics in refused.items():
        print(f"left out of {', '.join(metrics)} of {run.model.title}: {reason}")
    return tasks


def _read(path: Path) -> dict[str, Any]:
    """The record that is there, if any; raises InputError for a damaged one, before hours are spent on the others."""
    check_writable(path.parent)
    if not os.path.lexists(path):
        return {}
    try:
        record = json.loads(path.read_text())
        _ = record["produced_by"], record["results"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it to have it measured again") from error
    return record


def _measure(run: Run, tasks: Sequence[Task]) -> Records:
    """The records of all tasks; what was measured before with the same settings is not measured again."""
    print(f"measuring {run.workdir}")
    accuracy = {"accuracy": run.accuracy, "images": len(run.labels)}
    replace_files({run.results / "accuracy.json": as_json({"produced_by": {"run": run.about}, "results": accuracy})})
    records: Records = {}
    for task in tasks:
        title = f"{task.metric} of {task.method.label}"
        if task.before.get("produced_by") == task.produced_by:
            print(f"{title}: measured before")
            record = task.before
        else:
            record = {"produced_by": task.produced_by, **_timed(title, task.method, task.measurement)}
        metric, place = METRICS[task.metric], list(METRICS).index(task.metric)
        shown = {"columns": metric.columns, "caption": metric.caption, "place": place}
        record = record | {"label": task.method.label, **shown}
        if record != task.before:
            replace_files({task.path: as_json(record)})
        records.setdefault(task.metric, {})[task.method.label] = record
    return records


def _timed(title: str, method: Method, measurement: Measurement) -> dict[str, Any]:
    """The results of one method with the time they took and the versions that made them."""
    progress = Progress(measurement.total, unit=measurement.unit)
    done, told, started = 0, time.monotonic(), time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, told
        done += count
        progress.advance(count)
        if time.monotonic() - told > 30:
            progress.tell(f"{title}: {done} of {measurement.total} {measurement.unit}")
            told = time.monotonic()

    progress.tell(title)
    results = measurement.measure(method, advance)
    seconds = time.monotonic() - started
    progress.close()
    print(f"{title}: done in {seconds:.0f} s", flush=True)
    return {
        "seconds": round(seconds, 1),
        "device": jax.devices()[0].device_kind,
        "versions": {module.__name__: module.__version__ for module in (coda_jax, jax, flax, np)},
        "results": results,
    }


if __name__ == "__main__":
    command_line.run_without_config(main)
