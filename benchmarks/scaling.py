"""Measure how the cost of coda_jax grows with the size of the images and of the network.

python -m benchmarks.scaling [--out=runs/benchmarks]

Each table changes one number of the same small network and holds the others. Beside the growth of the time, from the
first row of the table on, stands that of the operations that `benchmarks.cost` counts. Prints tables, and writes
DIR/scaling.json. Takes at most five minutes on two cores.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

from benchmarks import cost, machine, ours
from benchmarks.timing import medians, print_table, seconds_of
from coda_jax import CoDANet

BASE = {"image_size": 32, "batch": 16, "rank": 32, "width": 32, "depth": 4, "classes": 10}
SWEEPS = {
    "image_size": (16, 32, 64),
    "batch": (4, 16, 64),
    "rank": (16, 32, 64, 128),
    "width": (16, 32, 64),
    "depth": (2, 4, 8),
    "classes": (10, 100, 400),
}
FLOPS = {"forward": cost.forward_flops, "train": cost.train_flops}


def network(rank: int, width: int, depth: int, classes: int) -> CoDANet:
    """So many layers of 3×3, all but the last of `width` units, the first of stride 2."""
    return CoDANet(
        channels=(width,) * (depth - 1) + (classes,),
        ranks=(rank,) * depth,
        kernel_sizes=(3,) * depth,
        strides=(2,) + (1,) * (depth - 1),
        paddings=(1,) * depth,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write.

    Args:
        arguments: of the command line; None for those that the program was started with.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), metavar="DIR", help="runs/benchmarks")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    print("Where nothing else is said: " + ", ".join(f"{name} {value}" for name, value in BASE.items()))
    results = {"machine": machine.describe(), "base": BASE, "sweeps": {}}
    for name, values in SWEEPS.items():
        results["sweeps"][name] = _sweep(name, values)
    (options.out / "scaling.json").write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    print(f"\nwrote {options.out / 'scaling.json'}")


def _sweep(name: str, values: Sequence[int]) -> list[dict[str, float]]:
    """The cost at each value of what `name` says, all others being as in `BASE`."""
    cases = [BASE | {name: value} for value in values]
    rows = [{name: value} for value in values]
    for task in FLOPS:
        times = medians([_job(task, **case) for case in cases], rounds=5)
        for row, case, seconds in zip(rows, cases, times, strict=True):
            row |= {f"{task}_seconds": seconds, f"{task}_flops": _flops(task, **case)}
    print_table(
        f"Growth with the {name.replace('_', ' ')}",
        ["", "forward ms", "growth", "predicted", "training step ms", "growth", "predicted"],
        [
            [row[name]]
            + [
                number
                for task in FLOPS
                for number in (
                    row[f"{task}_seconds"] * 1000,
                    row[f"{task}_seconds"] / rows[0][f"{task}_seconds"],
                    row[f"{task}_flops"] / rows[0][f"{task}_flops"],
                )
            ]
            for row in rows
        ],
    )
    return rows


def _flops(task: str, image_size: int, batch: int, **shape: int) -> int:
    return FLOPS[task](network(**shape), image_size, batch)


@cache  # Every table has a row of `BASE`.
def _job(task: str, image_size: int, batch: int, **shape: int) -> Callable[[], float]:
    """What does the task once and returns the seconds."""
    images = np.random.default_rng(0).random((batch, image_size, image_size, 3), np.float32)
    return partial(seconds_of, partial(ours.prepare(network(**shape), task, images, np.zeros(batch, np.int32)), 1))


if __name__ == "__main__":
    main()
