"""What was measured of a run's explanations: the records of it, and the table of their numbers.

The directory `interpretability` of a run has a record METRIC-N/METHOD.json for each metric and method, where N is the
number of grids or images. It is an object with

    label: the method's name, as people write it.
    results: what was measured.
    columns: by title of a column of the table, the keys in the results that lead to its number.
    place: the metric's among all metrics, from 0.
    caption: what is said below the metric's figure, METRIC.svg or METRIC.png; empty where none is shown.
"""

import json
from functools import reduce
from importlib import resources
from operator import getitem
from pathlib import Path
from typing import Any

from coda_jax.errors import InputError

Records = dict[str, dict[str, dict[str, Any]]]
"""By metric and label of the method, a record."""

# What older records do not say themselves.
_FORMER = json.loads(resources.files(__package__).joinpath("former_records.json").read_text(encoding="utf-8"))


def table(records: Records) -> list[list[str]]:
    """The rows of the table: titles first, then each method's label and numbers; a missing number raises KeyError."""
    columns: dict[tuple[str, str], None] = {}
    rows: dict[str, dict[tuple[str, str], str]] = {}
    for metric, of_metric in records.items():
        for label, record in of_metric.items():
            for title, keys in record["columns"].items():
                columns[metric, title] = None
                rows.setdefault(label, {})[metric, title] = f"{reduce(getitem, keys, record['results']):.3g}"
    titles = ["method", *(title for _, title in columns)]
    return [titles, *([label, *(row.get(column, "–") for column in columns)] for label, row in rows.items())]


def read_records(directory: Path) -> Records:
    """Read what was measured of a run: metrics by their places, and of each the network's own contributions first.

    A metric that was taken with several N is read with the largest one. The directory, `interpretability` of the run,
    need not exist. A damaged record raises InputError.
    """
    folders: dict[str, tuple[int, Path]] = {}
    for folder in directory.glob("*-*"):
        metric, _, examples = folder.name.rpartition("-")
        if examples.isdecimal():
            folders[metric] = max(folders.get(metric, (0, folder)), (int(examples), folder))
    records: Records = {}
    for metric, (_, folder) in folders.items():
        for path in sorted(folder.glob("*.json"), key=lambda path: (not path.stem.startswith("contributions"), path)):
            record = _read_record(path, metric)
            records.setdefault(metric, {})[record["label"]] = record
    return dict(sorted(records.items(), key=lambda item: min(record["place"] for record in item[1].values())))


def caption(of_metric: dict[str, dict[str, Any]]) -> str:
    """What the records of a metric say below its figure; empty where the report shows none."""
    return next((record["caption"] for record in of_metric.values() if record.get("caption")), "")


def _read_record(path: Path, metric: str) -> dict[str, Any]:
    label = {"label": _FORMER["labels"].get(path.stem, path.stem)}
    former = _FORMER["metrics"].get(metric, {"columns": {}, "place": 0})
    try:
        record = former | label | json.loads(path.read_text(encoding="utf-8"))
        table({metric: {record["label"]: record}})  # It has all its numbers.
    except (OSError, ValueError, AttributeError, LookupError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it to have it measured again") from error
    return record
