"""Measure how long trained networks take to classify an image and to explain it, on this machine's CPU.

python -m benchmarks.explaining NETWORK... [--rounds=50]

A network is a directory or a name, as `coda_jax.load` takes. Each has one image of the size that it was trained on. The
tasks of all networks run in turn, so that the machine's moods meet them alike. Medians, float32.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from benchmarks.timing import medians, print_table, seconds_of
from coda_jax import add_inverse, errors
from coda_jax.contributions import explain
from coda_jax.interop.pretrained import load_explainable

TASKS = ("forward", "predicted class", "all classes")


def jobs(network: str) -> list[Callable[[], Any]]:
    """What does each of `TASKS` once for a network of that name or in that directory; raises as `coda_jax.load`."""
    model, variables, info = load_explainable(network)
    model, variables = model.clone(dtype="float32"), model.with_gram(variables)
    size = info.preprocessing.size
    inputs = jax.device_put(add_inverse(np.random.default_rng(0).random((1, size, size, 3), np.float32)))
    forward = jax.jit(model.apply)
    return [
        lambda: forward(variables, inputs),
        partial(explain, model, variables, inputs),
        partial(explain, model, variables, inputs, "all"),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print.

    Args:
        arguments: of the command line; None for those that the program was started with.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.explaining", description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="+", metavar="NETWORK", help="a directory or a name")
    parser.add_argument("--rounds", type=int, default=50, help="how often each is measured: %(default)s")
    options = parser.parse_args(arguments)
    try:
        runs = [run for network in options.networks for run in jobs(network)]
    except errors.InputError as error:
        parser.exit(1, f"error: {error}\n")
    times = medians([partial(seconds_of, run) for run in runs], rounds=options.rounds)
    by_network = np.reshape(times, (-1, len(TASKS)))
    print_table(
        "one image, float32; ms, medians",
        ["", *TASKS],
        [[name, *map(float, 1000 * row)] for name, row in zip(options.networks, by_network, strict=True)],
    )


if __name__ == "__main__":
    main()
