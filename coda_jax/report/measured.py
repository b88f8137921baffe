"""The numbers that were measured of a run's explanations, and the table of them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coda_jax.errors import InputError

Results = dict[str, dict[str, Any]]
"""By metric and label of the method, what was measured."""

COLUMNS = {
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
"""Column titles of the table, and where their numbers are: the metric, and the keys in its results."""


def number(results: Results, label: str, path: Sequence[str | int]) -> float | None:
    """One number of a method, or None where it was not measured.

    Args:
        results: what was measured.
        label: of the method.
        path: the metric, and the keys in its results, as in `COLUMNS`.

    Raises:
        KeyError: the method was measured, but its results lack the key.
    """
    metric, *keys = path
    value = results.get(metric, {}).get(label)
    for key in keys:
        value = None if value is None else value[key]
    return value


def table(results: Results) -> list[list[str]]:
    """The rows of the table: the column titles first, then the label and the numbers of each method.

    Raises:
        KeyError: the results of a method lack one of their numbers.
    """
    labels = dict.fromkeys(label for of_metric in results.values() for label in of_metric)
    columns = {title: path for title, path in COLUMNS.items() if path[0] in results}
    rows = [["method", *columns]]
    for label in labels:
        numbers = (number(results, label, path) for path in columns.values())
        rows.append([label, *("–" if value is None else f"{value:.3g}" for value in numbers)])
    return rows


def read_results(directory: Path) -> Results:
    """Read what was measured of a run, the network's own contributions first.

    The directory holds a record METRIC-N/METHOD.json for each metric and method, where N is the number of grids or
    images. A metric that was taken with several N is read with the largest one.

    Args:
        directory: `interpretability` in the directory of the run; there may be none.

    Raises:
        InputError: a record is damaged.
    """
    folders: dict[str, dict[int, Path]] = {}
    for folder in directory.glob("*-*"):
        metric, _, examples = folder.name.rpartition("-")
        if examples.isdecimal():
            folders.setdefault(metric, {})[int(examples)] = folder
    results = {}
    for metric, by_examples in folders.items():
        records = by_examples[max(by_examples)].glob("*.json")
        own_first = sorted(records, key=lambda path: (not path.stem.startswith("contributions"), path.stem))
        results[metric] = dict(_read_record(path, metric) for path in own_first)
    return results


def _read_record(path: Path, metric: str) -> tuple[str, dict[str, Any]]:
    """The label of the method, and its results, which have all the numbers of the table."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        # Records from before there were labels have the name of the method alone.
        label, results = record.get("label", path.stem), record["results"]
        table({metric: {label: results}})
    except (OSError, ValueError, AttributeError, LookupError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it to have it measured again") from error
    return label, results
