"""Measure coda_jax against the plain algorithm in PyTorch, with S-CoDA on this machine's CPU.

python -m benchmarks [--quick] [--out=runs/benchmarks]

Prints tables, and writes DIR/benchmarks.json and DIR/benchmarks.png. Takes about ten minutes on two cores; with
--quick, which measures the first table only, three times and in batches of 4 instead of 16, about one. Every speed is
a ratio of programs that ran in turn; even so, the machine should have nothing else to do.
"""

import argparse
import importlib.util
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib import pyplot

from benchmarks import cost, machine
from benchmarks.timing import TaskError, medians, print_table, ratio
from benchmarks.worker import IMAGE_SIZE, NETWORK, Worker, differences, machine_limits, workers
from coda_jax import CoDANet

MODEL = CoDANet(**NETWORK)
TOLERANCE = 1e-4
TASKS = {
    "forward": "forward",
    "train": "training step",
    "explain": "forward and contributions, predicted class",
    "explain_all": "forward and contributions, ten classes",
}
COMPILED_TASKS = ("forward", "train")  # Those that torch.compile is measured at as well.


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write.

    Args:
        arguments: of the command line; None for those that the program was started with.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only the first table, in batches of 4, in about a minute")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), metavar="DIR", help="runs/benchmarks")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("torch") is None:
        sys.exit("error: the peer needs PyTorch: pip install 'coda_jax[benchmarks]', or '.[benchmarks]' in a checkout")
    options.out.mkdir(parents=True, exist_ok=True)

    results: dict[str, Any] = {"machine": machine.describe(), "quick": options.quick}
    print(", ".join(f"{key} {value}" for key, value in results["machine"].items() if value is not None))
    allocators = {"the C library's default allocator": ""}
    if options.quick:
        pass
    elif machine.has_huge_page_tunable():
        allocators["huge pages (GLIBC_TUNABLES=glibc.malloc.hugetlb=1)"] = "glibc.malloc.hugetlb=1"
    else:
        print("without a table for huge pages, which GLIBC_TUNABLES gives on Linux with glibc 2.35 or newer")
    batch_size = 4 if options.quick else 16
    print(f"S-CoDA, images of {IMAGE_SIZE}×{IMAGE_SIZE}, batches of {batch_size}, float32; times are medians")
    results["speed"] = {
        name: _speed(name, tunables, batch_size, options.quick) for name, tunables in allocators.items()
    }
    if not options.quick:
        results["memory"] = _memory()
        results["batch_sizes"] = _batch_sizes()
        results["gram"] = _gram()
        results["bfloat16"] = _bfloat16()
        results["startup_seconds"] = _startup()

    (options.out / "benchmarks.json").write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    _draw(results["speed"], options.out / "benchmarks.png")
    print(f"\nwrote {options.out / 'benchmarks.json'} and {options.out / 'benchmarks.png'}")


def _speed(allocator: str, tunables: str, batch_size: int, quick: bool) -> dict[str, Any]:
    """All programs at all tasks, once all agree."""
    flops = cost.flops_by_task(MODEL, IMAGE_SIZE, batch_size)
    programs = ["peer", "ours"] if quick else ["peer", "ours", "peer-compiled"]
    tasks = [task for task in TASKS if not (quick and task == "explain_all")]
    found, seconds = {}, {}
    with workers(programs, environment={"GLIBC_TUNABLES": tunables}) as started, tempfile.TemporaryDirectory() as saved:
        able = {task: started[: 3 if task in COMPILED_TASKS else 2] for task in tasks}
        for task in tasks:
            found[task] = differences(able[task], task, batch_size, Path(saved))
            if not found[task].get("ours", math.inf) <= TOLERANCE:
                sys.exit(f"error: the programs do not agree to {TOLERANCE}: {found}")
        limits = machine_limits(started[1], size=2048, mebibytes=512, calls=4)
        for task in tasks:
            jobs = [partial(worker.seconds, task, batch_size) for worker in able[task]]
            times = medians(jobs, rounds=3 if quick else 5, warm_ups=0)  # The comparison warmed up twice.
            seconds[task] = dict(zip([worker.program for worker in able[task]], times, strict=True))
    matmul_flops, stream_bytes = limits["matmul_flops_per_second"], limits["stream_bytes_per_second"]

    rows = []
    for task, times in seconds.items():
        eager, ours, compiled = times["peer"], times["ours"], times.get("peer-compiled")
        rate = ratio(flops[task], ours)
        rows.append(
            [TASKS[task]]
            + [ratio(time, batch_size / 1000) for time in (eager, compiled, ours)]
            + [ratio(eager, ours), ratio(compiled, ours), ratio(rate, 1e9), ratio(rate, matmul_flops / 100)]
        )
    print_table(
        f"Speed with {allocator}",
        ["", "peer ms/image", "compiled", "ours", "peer / ours", "compiled / ours", "GFLOP/s of ours", "% of matmul"],
        rows,
    )
    print(f"  the peer and ours differ by at most {max(by['ours'] for by in found.values()):.1g} of the largest value")
    print(f"  a matmul of 2048³: {matmul_flops / 1e9:.0f} GFLOP/s; reading and writing: {stream_bytes / 1e9:.0f} GB/s")
    return {
        "seconds": seconds,
        "batch_size": batch_size,
        "flops": flops,
        **limits,
        "differences": found,
    }


def _memory() -> list[dict[str, Any]]:
    """What a task takes beyond the program's own memory, in a fresh process each."""
    measured = []
    for program, task, batch_size in (
        ("peer", "train", 16),
        ("ours", "train", 16),
        ("ours", "train", 256),
        ("peer", "forward", 16),
        ("ours", "forward", 16),
        ("ours", "forward", 256),
    ):
        with workers([program]) as (worker,):
            try:
                first, later = (_bytes(worker, task, batch_size) for _ in range(2))
            except TaskError as error:
                print(f"  left out: {error}")
                continue
        measured.append(
            {"program": program, "task": task, "batch_size": batch_size, "first_bytes": first, "later_bytes": later}
        )
    if any(row["later_bytes"] is None for row in measured):
        print("\nwithout a table of memory, which only Linux tells")
        return []
    print_table(
        "Peak memory beyond parameters, inputs and optimiser state",
        ["", "batch", "MB, first call (ours compiles)", "MB, later call"],
        [
            [f"{row['program']}, {TASKS[row['task']]}", row["batch_size"]]
            + [row[key] / 1e6 for key in ("first_bytes", "later_bytes")]
            for row in measured
        ],
    )
    return measured


def _bytes(worker: Worker, task: str, batch_size: int) -> float:
    worker.send(task, batch_size)
    return worker.receive()["bytes"]


def _batch_sizes() -> list[dict[str, Any]]:
    """What an image costs in batches of several sizes."""
    cases = [("forward", 16), ("forward", 64), ("forward", 256), ("train", 16), ("train", 64)]
    with workers(["ours"]) as (ours,):
        times = medians([partial(ours.seconds, *case) for case in cases], rounds=5)
    print_table(
        "Batches of other sizes, ours",
        ["", "batch", "ms/image"],
        [[TASKS[task], size, ratio(time, size / 1000)] for (task, size), time in zip(cases, times, strict=True)],
    )
    return [
        {"task": task, "batch_size": size, "seconds": time} for (task, size), time in zip(cases, times, strict=True)
    ]


def _gram() -> dict[str, float | None]:
    """One image at a time, with and without the products of parameters that stay the same from call to call."""
    tasks = ["forward", "forward_gram", "explain", "explain_gram"]
    with workers(["ours"]) as (ours,):
        times = dict(zip(tasks, medians([partial(ours.seconds, task, 1) for task in tasks], rounds=11), strict=True))
    print_table(
        "A single image, ours, without and with CoDANet.with_gram",
        ["", "ms without", "ms with", "without / with"],
        [
            [TASKS[task], *(ratio(time, 0.001) for time in (times[task], times[f"{task}_gram"]))]
            + [ratio(times[task], times[f"{task}_gram"])]
            for task in ("forward", "explain")
        ],
    )
    return times


def _bfloat16() -> list[dict[str, Any]]:
    """What products in bfloat16 bring, on processors that have them."""
    measured = []
    for network, batch_size in (("S", 16), ("XS", 64)):
        with (
            workers(["ours"], [f"--network={network}"]) as (in_float32,),
            workers(["ours"], [f"--network={network}", "--dtype=bfloat16"]) as (in_bfloat16,),
        ):
            for task in ("forward", "train"):
                jobs = [partial(worker.seconds, task, batch_size) for worker in (in_float32, in_bfloat16)]
                seconds = medians(jobs, rounds=11)
                measured.append({"network": network, "batch_size": batch_size, "task": task, "seconds": seconds})
    print_table(
        "bfloat16 against float32, ours",
        ["", "batch", "float32 ms/image", "bfloat16 ms/image", "bfloat16 / float32"],
        [
            [f"{row['network']}-CoDA, {TASKS[row['task']]}", row["batch_size"]]
            + [ratio(time, row["batch_size"] / 1000) for time in row["seconds"]]
            + [ratio(*reversed(row["seconds"]))]
            for row in measured
        ],
    )
    return measured


def _startup() -> float:
    """The seconds that `import coda_jax` takes once JAX and Flax are imported, median of five fresh processes."""
    program = (
        "import time, jax, flax.linen; start = time.perf_counter(); import coda_jax; print(time.perf_counter() - start)"
    )
    seconds = statistics.median(
        float(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout) for _ in range(5)
    )
    print(f"\nimport coda_jax: {seconds:.2f} s beyond importing jax and flax")
    return seconds


def _draw(speed: dict[str, Any], file: Path) -> None:
    """A bar for every ratio of a peer's time to ours."""
    bars = [
        (f"{TASKS[task]}\n{'torch.compile' if program == 'peer-compiled' else 'eager PyTorch'}", program, index, times)
        for index, result in enumerate(speed.values())
        for task, times in result["seconds"].items()
        for program in ("peer", "peer-compiled")
        if times.get(program) and times["ours"]
    ]
    labels = list(dict.fromkeys(label for label, *_ in bars))
    height = 0.8 / len(speed)
    figure, axes = pyplot.subplots(figsize=(10, 1.5 + 0.7 * len(labels)), layout="constrained")
    for index, allocator in enumerate(speed):
        drawn = [
            (labels.index(label), times[program] / times["ours"]) for label, program, i, times in bars if i == index
        ]
        container = axes.barh([y + index * height for y, _ in drawn], [x for _, x in drawn], height, label=allocator)
        axes.bar_label(container, fmt="%.1f×", padding=3)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks([y + height * (len(speed) - 1) / 2 for y in range(len(labels))], labels)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel("time of PyTorch / time of coda_jax (1: equally fast)")
    axes.set_title(f"S-CoDA, batches of {next(iter(speed.values()))['batch_size']} images, float32, CPU", loc="left")
    figure.legend(loc="outside lower center", ncols=len(speed))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
