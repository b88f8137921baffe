"""CIFAR-10, downloaded and prepared without TensorFlow, in the form of TFDS's own `cifar10`, which other code reads.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html (the "binary version" describes the archive's format).
"""

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.hashing import Hasher

from coda_jax.data.download import fetch_archive
from coda_jax.data.prepared import Contents, open_sources, prepare_once, reading, root_of

ARCHIVE_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
ARCHIVE_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
CLASS_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
ABOUT = {
    "description": "[CIFAR-10](https://www.cs.toronto.edu/~kriz/cifar.html) (`coda_jax.data.load('cifar10')`): "
    "50,000 colour images of 32×32 pixels to train on, and 10,000 others to test on. Source: A. Krizhevsky, "
    "Learning Multiple Layers of Features from Tiny Images, 2009.",
    "licence": "not stated by those who made it",
}
"""For the cards of networks that were trained on it."""

_ENTRY = "cifar10/3.0.2"
_SPLIT_FILES = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}


def data_sources(data_dir: str | None) -> tuple[Sequence, Sequence, tuple[str, ...]]:
    """CIFAR-10's training examples, test examples and class names; it is downloaded and prepared at the first use.

    It is prepared in `<data_dir>/cifar10/3.0.2`; the archive (170 MB) in `<data_dir>/downloads/cifar10` may be deleted
    afterwards. Examples are {"image": uint8 [H=32, W=32, RGB=3], "label": int, "id": bytes}.
    """
    root = root_of(data_dir, "CIFAR-10", _ENTRY)
    prepare_once(root, _ENTRY, "CIFAR-10", lambda: _contents(root / "downloads" / "cifar10"))
    return open_sources(root / _ENTRY, "CIFAR-10", ("train", "test"))


def _contents(downloads: Path) -> Contents:
    archive = fetch_archive(ARCHIVE_URL, ARCHIVE_SHA256, downloads, "CIFAR-10", "170 MB")
    # It is the official one, as its hash says: what it holds needs no checks.
    with reading(archive, "put the official archive in its place"), tarfile.open(archive) as tar:
        files = {Path(member.name).name: tar.extractfile(member).read() for member in tar if member.isfile()}
        records = {split: b"".join(files[name] for name in names) for split, names in _SPLIT_FILES.items()}
    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(32, 32, 3), encoding_format="png"),
        "label": tfds.features.ClassLabel(names=CLASS_NAMES),
    }
    return features, {split: _examples(split, content) for split, content in records.items()}


def _examples(split: str, content: bytes) -> Iterator[dict[str, Any]]:
    """The examples of a split, each of a label and an R, a G and a B plane, in the order of TFDS's own builder."""
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
    for index in sorted(range(len(records)), key=Hasher(split).hash_key):
        image = Image.fromarray(records[index, 1:].reshape(3, 32, 32).transpose(1, 2, 0))
        yield {"id": f"{split}_{index:05d}", "image": image, "label": int(records[index, 0])}
