"""Data sets by name, and batches of them."""

from coda_jax.data.datasets import Dataset as Dataset
from coda_jax.data.datasets import load as load
from coda_jax.data.description import DatasetInfo as DatasetInfo
from coda_jax.data.loaders import test_batches as test_batches
from coda_jax.data.loaders import train_batches as train_batches
from coda_jax.data.preprocessing import Preprocessing as Preprocessing
from coda_jax.data.preprocessing import prepare as prepare
from coda_jax.data.preprocessing import read_image as read_image
