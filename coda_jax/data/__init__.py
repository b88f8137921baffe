"""Data sets by name, and batches of them."""

from typing import TYPE_CHECKING, Any

from coda_jax.data.datasets import Dataset as Dataset
from coda_jax.data.datasets import load as load
from coda_jax.data.description import DatasetInfo as DatasetInfo
from coda_jax.data.preprocessing import Preprocessing as Preprocessing
from coda_jax.data.preprocessing import prepare as prepare
from coda_jax.data.preprocessing import read_image as read_image
from coda_jax.extras import need

if TYPE_CHECKING:
    from coda_jax.data.loaders import test_batches as test_batches
    from coda_jax.data.loaders import train_batches as train_batches


def __getattr__(name: str) -> Any:
    """`train_batches` and `test_batches`, which are imported when they are asked for: grain is not always there."""
    if name not in ("test_batches", "train_batches"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    need("train", "grain")
    from coda_jax.data import loaders

    return getattr(loaders, name)
