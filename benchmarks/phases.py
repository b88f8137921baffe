"""What the phases of `benchmarks.accelerator` share: their networks, their results, and the time that they keep to.

A phase is a function of the command line's options and of a deadline by `time.monotonic()`, which all processes have in
common. It returns whether all is well.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.worker import IMAGE_SIZE, NETWORKS, images_and_labels
from coda_jax import CoDANet
from coda_jax.errors import one_line

Phase = Callable[[argparse.Namespace, float], bool]

PRECISIONS = {
    "bfloat16": (jnp.bfloat16, "default"),
    "tf32": (jnp.float32, "tensorfloat32"),
    "float32": (jnp.float32, "highest"),
}
"""By name: the network's dtype, and JAX's precision of products. Explanations are always of the highest precision."""


def network(options: argparse.Namespace, precision: str, **changes: Any) -> CoDANet:
    """The network that the options name."""
    return CoDANet(**{**NETWORKS[options.network], "temperature": 1000.0, "dtype": PRECISIONS[precision][0], **changes})


def random_batch(size: int) -> dict[str, np.ndarray]:
    """Random "image", float32 [N, 32, 32, 3], and "label", int32 [N]."""
    return dict(zip(("image", "label"), images_and_labels(size, IMAGE_SIZE), strict=True))


def tell(options: argparse.Namespace, phase: str, **values: Any) -> None:
    """Print a result, and append it to the file of results."""
    with (options.out / "results.jsonl").open("a") as file:
        file.write(json.dumps({"phase": phase, **values}) + "\n")
    texts = [f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()]
    print(phase, *texts, sep="  ", flush=True)


def run_phase(phase: Phase, options: argparse.Namespace, deadline: float) -> bool:
    """Run a phase in a process, which is killed at the deadline, or with this one, and all that it started with it.

    Returns:
        What the phase returns; True if it was killed for want of time, and False if it failed.
    """
    process = multiprocessing.get_context("spawn").Process(target=_in_process, args=(phase, options, deadline))
    process.start()
    try:
        process.join(max(0, deadline - time.monotonic()))
        if process.exitcode is None:
            tell(options, phase.__name__, left_out="the rest, for want of time")
        elif process.exitcode not in (0, 1):
            tell(options, phase.__name__, failed=f"its process ended with status {process.exitcode}")
        return process.exitcode in (None, 0)
    finally:
        process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()


def _in_process(phase: Phase, options: argparse.Namespace, deadline: float) -> None:
    os.setsid()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        well = phase(options, deadline)
    except Exception as error:  # The next phase is to be tried all the same.
        traceback.print_exc()
        tell(options, phase.__name__, failed=f"{type(error).__name__}: {one_line(error)[:300]}")
        well = False
    sys.stdout.flush()
    os._exit(0 if well else 1)  # Nobody waits for what still compiles in a thread.


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os.killpg(0, signal.SIGKILL)
