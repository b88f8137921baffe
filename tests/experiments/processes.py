"""The command lines as a user calls them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Of the seconds that a test's run takes, most go to the compiler if it optimises.
QUICK_COMPILER = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
CIFAR10 = "--config=experiments/configs/cifar10.py:5L-XS-CoDA-SQ-100"


def start(*arguments, experiment="digits", devices=1):
    environment = QUICK_COMPILER | os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, "-m", f"experiments.{experiment}", *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def start_together(count, *arguments, **settings):
    """So many processes that train together."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    together = f"--coordinator=localhost:{port}", f"--num_processes={count}"
    return [start(*arguments, *together, f"--process_id={i}", **settings) for i in range(count)]


def run_together(count, *arguments, **settings):
    """[(exit status, standard output, standard error)] of so many processes that train together."""
    return outcomes(start_together(count, *arguments, **settings))


def outcomes(processes):
    """[(exit status, standard output, standard error)] of processes, when they have ended."""
    outputs = [process.communicate(timeout=300) for process in processes]
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def run(*arguments, **settings):
    """(exit status, standard output, standard error)."""
    process = start(*arguments, **settings)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err
