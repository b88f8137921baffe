"""Fixtures that several test files use."""

import json
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).parents[2] / "shared"


def load_golden(name):
    """A file of outputs of the authors' code as a dict of arrays; `config` as a dict."""
    path = SHARED / "golden" / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"needs the outputs of the authors' code in {path}, which only developers have")
    with np.load(path) as arrays:
        golden = dict(arrays)
    golden["config"] = json.loads(str(golden["config"])) if "config" in golden else None
    return golden


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
