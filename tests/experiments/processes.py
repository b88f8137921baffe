"""The command lines as a user calls them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CIFAR10 = "--config=experiments/configs/cifar10.py:5L-XS-CoDA-SQ-100"


def start(*arguments, experiment="digits", devices=1):
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, "-m", f"experiments.{experiment}", *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def run(*arguments, **settings):
    """(exit status, standard output, standard error)."""
    process = start(*arguments, **settings)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err
