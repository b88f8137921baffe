"""The command lines as a user calls them."""

import atexit
import json
import os
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
CIFAR10 = "--config=experiments/configs/cifar10.py:5L-XS-CoDA-SQ-100"
SHORT = ("--config.num_steps=200", "--config.log_every=10", "--config.checkpoint_every=20")  # A run of the digits.


def run(*arguments, **settings):
    """(exit status, standard output, standard error) of a new process."""
    return outcomes([start(*arguments, **settings)])[0]


def start(*arguments, experiment="digits", devices=1):
    """The process, whose outputs are pipes."""
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
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


def run_quickly(*arguments, **settings):
    """What `run` returns, of a fork of a process that has imported what the command line does."""
    return measure(*arguments, **settings)[:3]


def measure(*arguments, experiment="digits", devices=1):
    """What `run_quickly` returns, and the seconds of CPU time that it took."""
    forks = _forks()
    forks.stdin.write(json.dumps([devices, f"experiments.{experiment}", *map(str, arguments)]) + "\n")
    forks.stdin.flush()
    return json.loads(forks.stdout.readline())


@cache
def _forks():
    """A process of tests/experiments/forks.py for all tests of this one."""
    # Nothing listens there: a download fails at once.
    environment = os.environ | {"HTTPS_PROXY": "http://127.0.0.1:9", "JAX_ENABLE_X64": "0"}
    command = [sys.executable, "-m", "tests.experiments.forks"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, **pipes, env=environment, text=True, cwd=ROOT)
    atexit.register(process.communicate)
    return process
