"""Fixtures that several test files use."""

import pytest

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
