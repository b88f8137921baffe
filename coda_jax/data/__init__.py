"""Data sets by name, and batches of them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from coda_jax.data.datasets import Dataset as Dataset
from coda_jax.data.datasets import load as load
from coda_jax.data.description import DatasetInfo as DatasetInfo
from coda_jax.data.description import Preprocessing as Preprocessing
from coda_jax.errors.extras import need

if TYPE_CHECKING:
    from coda_jax.data.loaders import test_batches as test_batches
    from coda_jax.data.loaders import train_batches as train_batches
    from coda_jax.data.preprocessing import prepare as prepare
    from coda_jax.data.preprocessing import read_image as read_image


def __getattr__(name: str) -> Any:
    """Functions that need grain or Pillow, which are not always there, and are imported when they are asked for."""
    if name in ("prepare", "read_image"):
        return getattr(import_module("coda_jax.data.preprocessing"), name)
    if name in ("test_batches", "train_batches"):
        need("train", "grain")
        return getattr(import_module("coda_jax.data.loaders"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
