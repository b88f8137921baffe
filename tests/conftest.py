"""Fixtures that several test files use."""

import gc
import os
from pathlib import Path

import pytest
from filelock import FileLock

# Compiling takes most of the tests' time, and XLA's optimisations most of that: `make test` runs those that are about
# precision with them too. Many processes compile the same small programs. All is set before JAX is imported.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

from tests.experiments.processes import SHORT, run_quickly
from tests.golden import SHARED, load_golden


def pytest_collection_finish():
    """Spare the garbage collector, which JAX keeps busy, what was imported."""
    gc.freeze()
    gc.set_threshold(100_000)


@pytest.fixture
def golden():
    """The loader of golden files, which skips the test where there are none."""
    return load_golden


@pytest.fixture
def cifar10_dir():
    """The directory of real, prepared CIFAR-10."""
    path = SHARED / "data" / "tfds"
    if not path.exists():
        pytest.skip(f"needs the prepared CIFAR-10 in {path}, which only developers have")
    return path


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """The working directory of a short run on digits, which no test may change, and what it printed."""
    # One for all processes of pytest-xdist, whose directories are beside each other.
    directory = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        directory = directory.parent
    workdir, printed = directory / "digits", directory / "digits.txt"
    with FileLock(directory / "digits.lock"):
        if not printed.exists():
            status, out, err = run_quickly(f"--workdir={workdir}", *SHORT)
            assert status == 0, err
            printed.write_text(out)
    return workdir, printed.read_text()
