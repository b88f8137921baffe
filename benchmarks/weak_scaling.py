"""Measure how the time of S-CoDA's training step grows with processes that have a core and a batch of their own each.

python -m benchmarks.weak_scaling [--batch_size=16] [--out=runs/benchmarks]

Takes as many processes as there are cores, at most eight, and compares one process alone, all of them without
connection, which shows what they take from each other of the machine, and all of them training one network, which
averages the gradients of all after every step. Beside the step stands the all-reduce of as many bytes alone. Prints a
table, and writes DIR/weak_scaling.json. Takes about three minutes on two cores. Needs Linux.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import machine, ours
from benchmarks.timing import print_table, ratio, seconds_of
from benchmarks.worker import IMAGE_SIZE, NETWORK, TINY_IMAGE_SIZE, TINY_NETWORK
from coda_jax import CoDANet
from coda_jax.training import state as training_state
from coda_jax.training.configuration import Training
from coda_jax.training.step import mapped_train_step

ROUNDS, WARM_UPS = 7, 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write.

    Args:
        arguments: of the command line; None for those that the program was started with.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.weak_scaling", description=__doc__.splitlines()[0])
    parser.add_argument("--batch_size", type=int, default=16, help="images of each process; 16")
    parser.add_argument("--small", action="store_true", help="a tiny network, only to show that it works")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), metavar="DIR", help="runs/benchmarks")
    # For the processes that it starts: which of how many this is, and the first one's address.
    parser.add_argument("--process", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--coordinator", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.process is not None:
        print(json.dumps(_measure(*options.process, options.coordinator, options.batch_size, options.small)))
        return
    if not hasattr(os, "sched_setaffinity"):
        sys.exit("error: only Linux lets a program choose its cores")
    options.out.mkdir(parents=True, exist_ok=True)

    count = min(8, len(os.sched_getaffinity(0)))
    flags = [f"--batch_size={options.batch_size}", *(["--small"] if options.small else [])]
    rows = [
        {"case": "one process", "processes": 1, **_run(1, flags, connected=False)},
        {"case": "without connection", "processes": count, **_run(count, flags, connected=False)},
        {"case": "one network", "processes": count, **_run(count, flags, connected=True)},
    ]
    print_table(
        f"A training step of {options.batch_size} images on each core",
        ["", "processes", "ms", "speed of each, %", "all-reduce alone, ms", "sent by each, MB/s"],
        [
            [row["case"], row["processes"], 1000 * row["step_seconds"]]
            + [100 * rows[0]["step_seconds"] / row["step_seconds"]]
            + [ratio(row["all_reduce_seconds"], 1e-3), ratio(row["sent_bytes"], (row["all_reduce_seconds"] or 1) * 1e6)]
            for row in rows
        ],
    )
    results = {"machine": machine.describe(), "batch_size": options.batch_size, "cases": rows}
    (options.out / "weak_scaling.json").write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    print(f"\nwrote {options.out / 'weak_scaling.json'}")


def _run(count: int, flags: Sequence[str], connected: bool) -> dict[str, float | None]:
    """What `_measure` returns in the first of so many processes that run at once."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "benchmarks.weak_scaling", *flags]
    if connected:
        command.append(f"--coordinator={address}")
    started = [
        subprocess.Popen([*command, "--process", str(index), str(count)], stdout=subprocess.PIPE, text=True)
        for index in range(count)
    ]
    outputs = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        sys.exit("error: a process failed; its own message is above")
    return json.loads(outputs[0].splitlines()[-1])


def _measure(index: int, count: int, coordinator: str | None, batch_size: int, small: bool) -> dict[str, float | None]:
    """Medians of the seconds of a step and of an all-reduce, the bytes that each process sends, and the devices."""
    # Before JAX starts its threads, of which there are as many as cores that it may use.
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[index]})
    if coordinator:
        jax.distributed.initialize(coordinator, num_processes=count, process_id=index)
    network, image_size = (TINY_NETWORK, TINY_IMAGE_SIZE) if small else (NETWORK, IMAGE_SIZE)
    model = CoDANet(**network)
    state = training_state.create(model, ours.ADAM, (image_size, image_size), seed=0)
    gradient_bytes = 4 * sum(leaf.size for leaf in jax.tree.leaves(state.params))
    step = mapped_train_step(model, ours.ADAM, Training())
    rng = np.random.default_rng(index)
    images = rng.random((1, batch_size, image_size, image_size, 3), np.float32)
    batch = {"image": images, "label": rng.integers(0, 10, (1, batch_size), np.int32)}

    def train() -> None:
        nonlocal state
        state, _ = step(state, batch)
        jax.block_until_ready(state)

    results = {"step_seconds": _median_seconds(train), "averaged_over": jax.device_count()}
    results |= {"all_reduce_seconds": None, "sent_bytes": None}
    if coordinator:
        sum_of_all = jax.pmap(partial(jax.lax.psum, axis_name="processes"), axis_name="processes")
        values = jnp.ones((1, gradient_bytes // 4))
        results["all_reduce_seconds"] = _median_seconds(lambda: jax.block_until_ready(sum_of_all(values)))
        results["sent_bytes"] = 2 * (count - 1) / count * gradient_bytes
    return results


def _median_seconds(run: Callable[[], object]) -> float:
    seconds = [seconds_of(run) for _ in range(WARM_UPS + ROUNDS)]
    return statistics.median(seconds[WARM_UPS:])


if __name__ == "__main__":
    main()
