"""Measure S-CoDA on one GPU: coda_jax, with and without its fused kernel, against PyTorch and against the GPU's limits.

python -m benchmarks.accelerator [--small] [--out=runs/benchmarks]

Prints tables, and writes DIR/accelerator.json. Begins nothing new after eight minutes, and says what it left out.
PyTorch's figures need a PyTorch that sees the GPU; of several GPUs, show it one (CUDA_VISIBLE_DEVICES=0). On a TPU it
measures coda_jax alone. With --small, and always where JAX has no accelerator, it does everything with a tiny network,
only to show that it works.

In float32 both libraries are let round the factors of products to TensorFloat-32, as JAX does unless told otherwise;
only coda_jax's explanations are always exact. Only programs that agree in exact float32 are measured.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import cost, machine
from benchmarks.ours import PIPELINE_STEPS
from benchmarks.timing import TaskError, medians, print_table, ratio
from benchmarks.worker import (
    IMAGE_SIZE,
    NETWORK,
    TINY_IMAGE_SIZE,
    TINY_NETWORK,
    Worker,
    differences,
    machine_limits,
    workers,
)
from coda_jax import CoDANet

TASKS = {
    "forward": "forward",
    "train": "training step",
    "explain": "explain, predicted class",
    "explain_all": "explain, ten classes",
    "pipeline": "training from the GPU's memory",
}
PROGRAMS = {
    "peer": "PyTorch",
    "peer-compiled": "torch.compile",
    "ours": "coda_jax",
    "ours-fused": "coda_jax, fused",
}
TASKS_OF = {
    "peer": ("forward", "train", "explain", "explain_all"),
    "peer-compiled": ("forward", "train"),
    "ours": tuple(TASKS),
    "ours-fused": ("forward", "train", "pipeline"),
}
BATCH_SIZES = (128, 512, 16)
DTYPES = ("float32", "bfloat16")
TOLERANCE = 1e-4
STOP_AFTER = 8 * 60
"""Seconds after which nothing new is begun."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write.

    Args:
        arguments: of the command line; None for those that the program was started with.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accelerator", description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a tiny network, to show that it works")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), metavar="DIR", help="runs/benchmarks")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    # The programs share the GPU, so that JAX must not take all of its memory at once.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"

    platform, count, device = _ask("import jax; d = jax.devices(); print(d[0].platform, len(d), d[0].device_kind)")
    if int(count) > 1:
        sys.exit(f"error: this measures one device, but JAX sees {count}: set CUDA_VISIBLE_DEVICES=0 or its like")
    small = options.small or platform == "cpu"
    if small:
        reason = "as --small says" if options.small else "as JAX sees no GPU"
        print(f"A tiny network, {reason}: the times below show that everything works, and are not those of a GPU.")
    programs = _programs(platform)
    network, image_size = (TINY_NETWORK, TINY_IMAGE_SIZE) if small else (NETWORK, IMAGE_SIZE)
    model = CoDANet(**network)
    flags = ["--small"] if small else []
    results: dict[str, Any] = {"machine": machine.describe(), "platform": platform, "device": device, "small": small}
    print(f"{device} ({platform}), " + ", ".join(f"{key} {value}" for key, value in results["machine"].items()))

    results["differences"] = _compare([name for name in programs if name != "peer-compiled"], flags)
    for name, by_task in results["differences"].items():
        if not all(difference <= TOLERANCE for difference in by_task.values()):
            if name == "ours":
                sys.exit(f"error: coda_jax and PyTorch do not agree to {TOLERANCE}")
            print(f"left out: {PROGRAMS[name]}, whose results are wrong")
            programs.remove(name)
    results["limits"], results["measured"] = [], []
    batch_sizes = (2,) if small else BATCH_SIZES
    for batch_size in batch_sizes:
        for dtype in DTYPES:
            case = {"batch_size": batch_size, "dtype": dtype}
            # torch.compile takes too long to be tried at every size.
            some = [name for name in programs if name != "peer-compiled" or batch_size == batch_sizes[0]]
            with workers(some, [*flags, f"--dtype={dtype}"]) as started:
                ours = next(worker for worker in started if worker.program == "ours")
                size, mebibytes, calls = (256, 1, 1) if small else (8192, 1024, 20)
                limits = machine_limits(ours, size, mebibytes, calls)
                times = {}
                for task in TASKS:
                    if time.monotonic() - began > STOP_AFTER:
                        print(f"left out for want of time: {TASKS[task]}, batches of {batch_size}, {dtype}")
                        continue
                    able = [worker for worker in started if task in TASKS_OF[worker.program]]
                    times[task] = _times(able, task, batch_size, small)
            _print(times, limits, model, image_size, **case)
            results["limits"].append(case | limits)
            results["measured"] += [
                case | {"task": task, "program": program, "seconds": seconds}
                for task, by_program in times.items()
                for program, seconds in by_program.items()
            ]
    (options.out / "accelerator.json").write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    print(f"\nwrote {options.out / 'accelerator.json'}")


def _ask(program: str) -> list[str]:
    """The first three words that a program prints: this process must not hold the device, which a TPU gives to one."""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip().split(maxsplit=2)


def _programs(platform: str) -> list[str]:
    """Those that can run here, the one that others are compared with first; says which cannot."""
    ours = ["ours"]
    if platform == "tpu":
        print("left out: the fused kernel, which is for GPUs")
    else:
        ours.append("ours-fused")
    if platform == "tpu":
        print("left out: PyTorch, which is measured on GPUs")
    elif importlib.util.find_spec("torch") is None:
        print("left out: PyTorch, which is not installed (pip install torch)")
    elif platform == "gpu" and _ask("import torch; print(torch.cuda.is_available())") != ["True"]:
        print("left out: PyTorch, which sees no GPU (it needs a build for CUDA)")
    else:
        return ["peer", *ours, "peer-compiled"]
    return ours


def _compare(programs: list[str], flags: list[str]) -> dict[str, dict[str, float]]:
    """How far each program's results are from the first one's in exact float32, by program and task."""
    found = {program: {} for program in programs[1:]}
    with workers(programs, [*flags, "--exact"]) as started, tempfile.TemporaryDirectory() as saved:
        for task in ("forward", "train", "explain", "explain_all"):
            able = [worker for worker in started if task in TASKS_OF[worker.program]]
            if len(able) < 2:
                continue
            for name, difference in differences(able, task, 4, Path(saved)).items():
                found[name][task] = difference
                print(f"{TASKS[task]}: {PROGRAMS[name]} differs from {PROGRAMS[programs[0]]} by {difference:.1g}")
    return found


def _times(able: Sequence[Worker], task: str, batch_size: int, small: bool) -> dict[str, float]:
    """The seconds of a batch by program, without those that cannot do it."""
    # All compile at once. What fails for want of memory because others run too gets another chance below.
    for worker in able:
        worker.send(task, batch_size)
    for worker in able:
        try:
            worker.receive()
        except TaskError:
            pass
    jobs = []
    for worker in able:
        try:
            once = worker.seconds(task, batch_size)
        except TaskError as error:
            print(f"left out: {error}")
            continue
        # Many calls in a row, for half a second if they are short, keep a GPU busy and average over its moods.
        calls = 1 if small or task == "pipeline" else max(1, min(50, int(0.5 / once)))
        jobs.append((worker.program, partial(worker.seconds, task, batch_size, calls)))
    times = medians([job for _, job in jobs], rounds=1 if small else 5, warm_ups=1)
    steps = PIPELINE_STEPS if task == "pipeline" else 1
    return {name: seconds / steps for (name, _), seconds in zip(jobs, times, strict=True) if seconds is not None}


def _print(
    times: dict[str, dict[str, float]],
    limits: dict[str, float],
    model: CoDANet,
    image_size: int,
    batch_size: int,
    dtype: str,
) -> None:
    """A table of what was measured at one batch size and dtype."""
    flops = cost.flops_by_task(model, image_size, batch_size)
    rows = []
    for task, by_program in times.items():
        for program, seconds in by_program.items():
            rate = flops[task] / seconds if program.startswith("ours") else None
            rows.append(
                [f"{TASKS[task]}: {PROGRAMS[program]}", seconds * 1000, batch_size / seconds]
                + [ratio(by_program.get("peer"), seconds), ratio(by_program.get("peer-compiled"), seconds)]
                + [ratio(rate, 1e12), ratio(rate, limits["matmul_flops_per_second"] / 100)]
                + [200 * 50_000 / batch_size * seconds / 60 if task == "pipeline" else None]
            )
    print_table(
        f"Batches of {batch_size}, {dtype}",
        [
            "",
            "ms/batch",
            "images/s",
            "PyTorch / this",
            "torch.compile / this",
            "TFLOP/s",
            "% of matmul",
            "min for 200 epochs of 50,000",
        ],
        rows,
    )
    print(
        f"  a large matmul: {limits['matmul_flops_per_second'] / 1e12:.3g} TFLOP/s; "
        f"reading and writing: {limits['stream_bytes_per_second'] / 1e9:.3g} GB/s"
    )


if __name__ == "__main__":
    main()
