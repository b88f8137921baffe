"""Measure what an accelerator needs, beside PyTorch on the same one: the second phase of `benchmarks.accelerator`."""

import argparse
import importlib.util
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent import futures
from functools import cache, partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import jax

from benchmarks import cost, ours
from benchmarks.gpu_program import kernels
from benchmarks.phases import PRECISIONS, network, random_batch, tell
from benchmarks.timing import TaskError, medians, ratio
from benchmarks.worker import IMAGE_SIZE
from coda_jax.errors import one_line
from coda_jax.training.configuration import Training
from coda_jax.training.state import create
from coda_jax.training.step import mapped_train_step, split_over_devices

TASKS = ("train", "forward", "explain", "explain_all")
CASES = [
    *((precision, task) for precision in ("bfloat16", "float32") for task in TASKS),
    *(("tf32", task) for task in ("train", "forward")),  # Explanations would be those of float32.
]
"""Precisions and tasks: a step of Adam, the logits, contributions to the predicted class and to all."""
PROGRAMS = ("coda_jax", "PyTorch", "torch.compile")


class Program(NamedTuple):
    """What is measured.

    `seconds` does the task so many times in a row, and returns the time of one and the bytes of the accelerator's
    memory that it took, if known; what fails raises TaskError. `moved` are the bytes that its kernels read and write,
    if known.
    """

    seconds: Callable[[int], tuple[float, int | None]]
    moved: int | None = None


def speed(options: argparse.Namespace, deadline: float) -> bool:
    """The phase; all is well even if a program fails, for want of memory, say, which is told."""
    deadline -= 2  # What is left out is told in time.
    peers = _start_peers(options)
    rates = _rates()
    tell(options, "speed", of="large products and a large array", **rates)
    ours_compile = futures.ThreadPoolExecutor(os.cpu_count())  # A compiler takes a core.
    peers_compile = futures.ThreadPoolExecutor(64)  # Their processes compile; these threads wait.
    for batch_size in options.batch_sizes:
        # Compiling would disturb measuring, and must leave time for it.
        half = (time.monotonic() + deadline) / 2
        prepared = {}
        for precision, task in CASES:
            prepared[precision, task, "coda_jax"] = ours_compile.submit(_ours, options, precision, task, batch_size)
            for name in peers:
                # torch.compile takes too long for everything.
                if name == "PyTorch" or (task in ("train", "forward") and batch_size == options.batch_sizes[0]):
                    prepare = peers[name][precision].prepare
                    prepared[precision, task, name] = peers_compile.submit(prepare, task, batch_size, half, deadline)
        futures.wait(prepared.values(), half - time.monotonic())
        for precision, task in CASES:
            programs = {
                name: prepared[precision, task, name] for name in PROGRAMS if (precision, task, name) in prepared
            }
            case = {"task": task, "batch_size": batch_size, "precision": precision}
            _measure(options, programs, case, rates, deadline)
    ours_compile.shutdown(wait=False, cancel_futures=True)
    peers_compile.shutdown(wait=False, cancel_futures=True)
    return True


def _measure(
    options: argparse.Namespace,
    programs: dict[str, futures.Future],
    case: dict[str, Any],
    rates: dict[str, float],
    deadline: float,
) -> None:
    """Measure the programs of one case in turn, and tell."""
    able, jobs = {}, []
    for name, future in programs.items():
        try:
            if time.monotonic() > deadline:
                raise TimeoutError
            program = future.result(timeout=0)
            program.seconds(1)
            once, memory = program.seconds(1)
        except TimeoutError:
            tell(options, "speed", **case, program=name, left_out="for want of time")
        except Exception as error:  # Of whatever library.
            tell(options, "speed", **case, program=name, left_out=one_line(error)[:300])
        else:
            able[name] = memory
            # Many calls in a row, for a third of a second if they are short, keep an accelerator busy.
            calls = max(1, min(50, int(0.3 / once)))
            jobs.append(lambda program=program, calls=calls: program.seconds(calls)[0])
    times = dict(zip(able, medians(jobs, rounds=3, warm_ups=0), strict=True))
    for name, seconds in times.items():
        if seconds is None:
            continue
        values = {"ms": seconds * 1e3, "images_per_second": case["batch_size"] / seconds}
        values |= {} if able[name] is None else {"memory_mb": able[name] / 1e6}
        if name == "coda_jax":
            model, batch_size = network(options, case["precision"]), case["batch_size"]
            products = cost.flops_by_task(model, IMAGE_SIZE, batch_size)[case["task"]] / rates[case["precision"]]
            memory = programs[name].result().moved / rates["bytes_per_second"]
            values |= {"share_of_products": products / seconds, "share_of_memory": memory / seconds}
            values |= {f"times_{peer}": ratio(times[peer], seconds) for peer in times if peer != name}
        tell(options, "speed", **case, program=name, **values)


def _rates() -> dict[str, float]:
    """Operations a second of a large product in each precision, and bytes a second of a large array."""
    size, mebibytes = (512, 64) if jax.devices()[0].platform == "cpu" else (8192, 1024)

    def best(run: Callable[[int], object]) -> float:
        run(1)
        return min(_timed(run, 10) for _ in range(3))

    rates = {"bytes_per_second": 2 * mebibytes * 2**20 / best(ours.stream(mebibytes))}
    for precision, (dtype, of_products) in PRECISIONS.items():
        with jax.default_matmul_precision(of_products):
            rates[precision] = 2 * size**3 / best(ours.matmul(size, dtype))
    return rates


def _timed(run: Callable[[int], object], calls: int) -> float:
    began = time.perf_counter()
    run(calls)
    return (time.perf_counter() - began) / calls


def _ours(options: argparse.Namespace, precision: str, task: str, batch_size: int) -> Program:
    """coda_jax's program, compiled."""
    model, batch = network(options, precision), random_batch(batch_size)
    with jax.default_matmul_precision(PRECISIONS[precision][1]):
        if task == "train":
            state = create(model, ours.ADAM, (IMAGE_SIZE, IMAGE_SIZE), seed=0)
            batch = jax.device_put(split_over_devices(batch))
            program = mapped_train_step(model, ours.ADAM, Training()).lower(state, batch).compile()
        else:
            variables, images = ours.initial(model), jax.device_put(batch["image"])
            program = ours.program_of(model, task).lower(variables, images).compile()

    def run(calls: int) -> None:
        nonlocal state
        for _ in range(calls):
            if task == "train":
                state, result = program(state, batch)
            else:
                result = program(variables, images)
        jax.block_until_ready(result)

    def seconds(calls: int) -> tuple[float, int]:
        try:
            return _timed(run, calls), memory
        except RuntimeError as error:  # JAX's for want of memory is one.
            raise TaskError(one_line(error)[:300]) from error

    sizes = program.memory_analysis()
    memory = (
        sizes.argument_size_in_bytes + sizes.temp_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    )
    moved = sum(kernel.bytes for kernel in kernels(program.as_text()))
    return Program(seconds, moved)


class Peer:
    """PyTorch in a process of its own, eager or compiled, in one precision."""

    def __init__(self, options: argparse.Namespace, precision: str, compiled: bool) -> None:
        """Start the process, which ends with this one."""
        context, on_gpu = multiprocessing.get_context("spawn"), jax.devices()[0].platform == "gpu"
        self.compiled, self.lock = compiled, threading.Lock()
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, options, precision, compiled, on_gpu), daemon=True)
        self.process.start()
        theirs.close()

    def prepare(self, task: str, batch_size: int, until: float, deadline: float) -> Program:
        """The program of a task; what is compiled must be so `until` then."""
        if self.compiled:
            self.seconds(task, batch_size, until, 1)
        return Program(partial(self.seconds, task, batch_size, deadline))

    def seconds(self, task: str, batch_size: int, until: float, calls: int) -> tuple[float, int | None]:
        """As `Program.seconds`; what takes longer than `until` ends the process."""
        with self.lock:
            try:
                self.connection.send((task, batch_size, calls))
                if not self.connection.poll(max(0, until - time.monotonic())):
                    self.process.kill()
                    raise TaskError("takes too long")
                answer = self.connection.recv()
            except (EOFError, OSError) as error:
                raise TaskError("its process ended") from error
        if isinstance(answer, str):
            raise TaskError(answer)
        return answer


def _start_peers(options: argparse.Namespace) -> dict[str, dict[str, Peer]]:
    """Those of each precision, by the program's name; none where there is no PyTorch for this accelerator."""
    if importlib.util.find_spec("torch") is None:
        tell(options, "speed", left_out="PyTorch, which is not installed")
        return {}
    if jax.devices()[0].platform not in ("cpu", "gpu"):
        tell(options, "speed", left_out="PyTorch, which is measured on GPUs")
        return {}
    return {
        name: {precision: Peer(options, precision, compiled) for precision in PRECISIONS}
        for name, compiled in (("PyTorch", False), ("torch.compile", True))
    }


def _serve(connection: Connection, options: argparse.Namespace, precision: str, compiled: bool, on_gpu: bool) -> None:
    """Answer requests (task, batch size, calls) with (seconds, bytes), or with what went wrong."""
    jax.config.update("jax_platforms", "cpu")  # Here it only makes the parameters.
    import torch

    from benchmarks import peer  # Needs PyTorch, too.

    @cache
    def prepared(task: str, batch_size: int) -> Callable[[int], object]:
        arrays = random_batch(batch_size)
        exact = precision == "float32"
        return peer.prepare(
            network(options, precision), task, arrays["image"], arrays["label"], compiled=compiled, exact=exact
        )

    while True:
        try:
            task, batch_size, calls = connection.recv()
        except EOFError:  # Nobody asks any more.
            return
        try:
            if on_gpu and not torch.cuda.is_available():
                raise TaskError("PyTorch sees no GPU: it needs a build for CUDA")
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            seconds = _timed(prepared(task, batch_size), calls)
            answer = seconds, torch.cuda.max_memory_allocated() if on_gpu else None
        except Exception as error:  # Of whatever library; it is told.
            answer = f"{type(error).__name__}: {one_line(error)[:200]}"
        if on_gpu and torch.cuda.is_available():
            torch.cuda.empty_cache()  # Others need it.
        connection.send(answer)
