"""Data sets by name, and batches of them."""

from coda_jax.data.datasets import Dataset as Dataset
from coda_jax.data.datasets import load as load
from coda_jax.data.loaders import test_batches as test_batches
from coda_jax.data.loaders import train_batches as train_batches
