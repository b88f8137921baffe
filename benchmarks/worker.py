"""Programs that are measured, each in a process of its own.

    python -m benchmarks.worker PROGRAM [--network=NAME] [--dtype=bfloat16] [--exact]

reads requests, a line each, from standard input:

    TASK BATCH_SIZE CALLS [FILE]

and answers each with a line of JSON: {"seconds": of one of so many calls in a row, "bytes": the most memory of the
host that they took beyond what the process held before the task's first call, or null where the system does not tell}
or {"error": "why there is no answer"}. Where FILE is given, the last call's result is saved there.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import ours
from benchmarks.timing import TaskError, medians
from coda_jax import CoDANet
from coda_jax.networks.coda_net import LOGIT_BIAS, S_CODA, XS_CODA

PROGRAMS = ("ours", "peer", "peer-compiled")
"""coda_jax; PyTorch, eager and under `torch.compile`."""

NETWORK, IMAGE_SIZE = S_CODA | {"temperature": 1000.0}, 32
"""What is measured: S-CoDA, and the side of its images in pixels."""

TINY_NETWORK, TINY_IMAGE_SIZE = (
    {
        "channels": (4, 10),
        "ranks": (4, 8),
        "kernel_sizes": (3, 1),
        "strides": (2, 1),
        "paddings": (1, 0),
    },
    8,
)
"""A network for tests, and the side of its images."""

NETWORKS = {"S": NETWORK, "XS": XS_CODA | {"temperature": 1000.0}, "tiny": TINY_NETWORK}
"""By the names of `--network`."""


class Worker:
    """A process that does tasks."""

    def __init__(self, program: str, flags: Sequence[str] = (), environment: dict[str, str] | None = None) -> None:
        """Start the process.

        Args:
            program: one of `PROGRAMS`.
            flags: of the command line above.
            environment: variables that it has besides those of this process.
        """
        self.program = program
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", program, *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )

    def send(self, task: str, batch_size: int, calls: int = 1, file: Path | str = "") -> None:
        """Ask for a task; `receive` waits for the answer."""
        with suppress(BrokenPipeError):  # `receive` tells.
            print(task, batch_size, calls, file, file=self.process.stdin, flush=True)

    def receive(self) -> dict[str, float]:
        """The answer to the oldest request without one: {"seconds", "bytes"}.

        Raises:
            TaskError: the task could not be done.
        """
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": "its process ended"}
        if "error" in answer:
            raise TaskError(f"{self.program}: {answer['error']}")
        return answer

    def seconds(self, task: str, batch_size: int, calls: int = 1) -> float:
        """The seconds of one of so many calls in a row; raises as `receive`."""
        self.send(task, batch_size, calls)
        return self.receive()["seconds"]


@contextmanager
def workers(
    programs: Sequence[str], flags: Sequence[str] = (), environment: dict[str, str] | None = None
) -> Iterator[list[Worker]]:
    """A process for each program, all of which end with the context."""
    started = [Worker(program, flags, environment) for program in programs]
    try:
        yield started
    finally:
        for worker in started:
            worker.process.kill()
            worker.process.communicate()


def differences(started: Sequence[Worker], task: str, batch_size: int, directory: Path) -> dict[str, float]:
    """How far the programs' results are from those of the first; it has each do the task twice.

    The result of "train" is then the loss of the second step, which tells of the first one's gradients.

    Args:
        started: the workers.
        task: what they do.
        batch_size: images.
        directory: where the results are saved.

    Returns:
        By program the largest difference, beyond the rounding of a logit, as a part of the first's largest value
        (without the logit bias). A program that cannot do the task is left out, which is printed.
    """
    files = {worker: directory / f"{worker.program}-{task}.npy" for worker in started}
    for worker, file in files.items():  # At once, for this is not timed and compiling takes long.
        worker.send(task, batch_size, 2, file)
    results = {}
    for worker, file in files.items():
        try:
            worker.receive()
        except TaskError as error:
            print(f"  left out: {error}", flush=True)
            continue
        results[worker.program] = np.load(file).astype(np.float64)
    if started[0].program not in results:
        return {}
    reference = results.pop(started[0].program)
    bias = LOGIT_BIAS if task == "forward" else 0
    rounding = 2 * np.spacing(np.float32(abs(bias)))
    scale = np.abs(reference - bias).max()
    return {
        program: float(max(0, np.abs(values - reference).max() - rounding) / scale)
        for program, values in results.items()
    }


def machine_limits(worker: Worker, size: int, mebibytes: int, calls: int) -> dict[str, float]:
    """What the machine can compute and move: the rates of a large matmul and of a large array read and written.

    Args:
        worker: one of coda_jax.
        size: of the square matrices.
        mebibytes: of the array.
        calls: in a row.
    """
    matmul, stream = medians(
        [partial(worker.seconds, "matmul", size, calls), partial(worker.seconds, "stream", mebibytes, calls)], rounds=5
    )
    return {
        "matmul_flops_per_second": 2 * size**3 / matmul,
        "stream_bytes_per_second": 2 * mebibytes * 2**20 / stream,
    }


def _answer_requests(arguments: argparse.Namespace) -> None:
    # Whatever a library prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if arguments.exact:
        jax.config.update("jax_default_matmul_precision", "highest")
    if arguments.program.startswith("peer"):
        jax.config.update("jax_platforms", "cpu")  # There it only makes the parameters.
        from benchmarks import peer  # Needs PyTorch, which the others do without.

        prepare = partial(peer.prepare, compiled=arguments.program == "peer-compiled", exact=arguments.exact)
        to_numpy = peer.to_numpy
    else:
        prepare, to_numpy = ours.prepare, partial(np.asarray, dtype=np.float32)

    image_size = TINY_IMAGE_SIZE if arguments.network == "tiny" else IMAGE_SIZE
    model = CoDANet(**NETWORKS[arguments.network], dtype=jnp.dtype(arguments.dtype))

    @cache
    def prepared(task: str, size: int) -> tuple[Callable, int | None]:
        if task == "matmul":
            run = ours.matmul(size, jnp.dtype(arguments.dtype))
        elif task == "stream":
            run = ours.stream(size)
        else:
            run = prepare(model, task, *images_and_labels(size, image_size))
        return run, _resident_bytes("VmRSS")

    for line in sys.stdin:
        task, size, calls, *file = line.split()
        try:
            run, baseline = prepared(task, int(size))
            _reset_peak()
            start = time.perf_counter()
            result = run(int(calls))
            seconds = (time.perf_counter() - start) / int(calls)
            answer = {"seconds": seconds, "bytes": baseline and _resident_bytes("VmHWM") - baseline}
            if file:
                np.save(file[0], to_numpy(result))
        except Exception as error:  # Of whatever library; the request's sender decides.
            answer = {"error": f"{task} of {size}: {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"}
        if "error" in answer:
            # Only here, where no traceback holds on to it, can the memory be freed for others.
            gc.collect()
            if "torch" in sys.modules:
                sys.modules["torch"].cuda.empty_cache()
        print(json.dumps(answer), file=answers, flush=True)


def images_and_labels(batch_size: int, image_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images float32 [N, H, W, 3] and labels int32 [N]."""
    rng = np.random.default_rng(0)
    images = rng.random((batch_size, image_size, image_size, 3), np.float32)
    return images, rng.integers(0, 10, batch_size, np.int32)


def _reset_peak() -> None:
    """Have VmHWM, the most memory that the process held, start anew."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def _resident_bytes(field: str) -> int | None:
    """VmRSS, what the process holds, or VmHWM, the most that it held; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--network", choices=list(NETWORKS), default="S")
    _answer_requests(parser.parse_args())
