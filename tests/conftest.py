"""Fixtures that several test files use."""

import os
from pathlib import Path

import pytest

# Tests compile the same small programs many times over, in many processes. Set before JAX is imported.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

from tests.golden import SHARED, load_golden


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
