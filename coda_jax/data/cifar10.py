"""CIFAR-10 as random-access TFDS data sources, downloaded and prepared without TensorFlow.

TFDS's own `cifar10` builder needs TensorFlow to prepare the data. The one here reads the same
official archive and writes the same data set (name, version, features, keys) as ArrayRecord files
of PNG images, so that `tfds.data_source("cifar10")` in other code reads it as well.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html (the "binary version" describes the archive's format).
"""

import itertools
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pooch
import requests
import tensorflow_datasets as tfds

from coda_jax.data.prepared import open_sources, prepare_once, root_of
from coda_jax.errors import InputError, one_line

ARCHIVE_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
ARCHIVE_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"

_VERSION = "3.0.2"
_ENTRY = f"cifar10/{_VERSION}"
CLASS_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
_SPLIT_FILES = {
    "train": [f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)],
    "test": ["cifar-10-batches-bin/test_batch.bin"],
}
ABOUT = {
    "description": "[CIFAR-10](https://www.cs.toronto.edu/~kriz/cifar.html) (`coda_jax.data.load('cifar10')`): "
    "50,000 colour images of 32×32 pixels to train on, and 10,000 others to test on. Source: A. Krizhevsky, "
    "Learning Multiple Layers of Features from Tiny Images, 2009.",
    "licence": "not stated by those who made it",
}
"""For the cards of networks that were trained on it."""
_RECORD_BYTES = 1 + 3 * 32 * 32


def data_sources(data_dir: str | None) -> tuple[Sequence, Sequence, tuple[str, ...]]:
    """Opens CIFAR-10, after downloading and preparing it where that has not been done yet.

    The archive (170 MB) is kept in `<data_dir>/downloads/cifar10`, beside TFDS's own downloads; it
    may be deleted once the data set is prepared in `<data_dir>/cifar10/3.0.2`. An interrupted
    download or preparation leaves neither behind half-made: call again.

    Args:
        data_dir: An existing directory of TFDS data sets, or None for TFDS's default (the
            environment variable TFDS_DATA_DIR, else `~/tensorflow_datasets`).

    Returns:
        `(train, test, class_names)`. Each of `train` (50,000 images) and `test` (10,000) has a
        length and, at an integer index, a dict of "image": uint8 [height=32, width=32, RGB=3],
        "label": int that indexes `class_names`, and "id": bytes.

    Raises:
        InputError: `data_dir` is missing or cannot be written; the data set in it is damaged or
            not stored as ArrayRecord; the download fails; or the archive is not the official one.
    """
    root = root_of(data_dir, "CIFAR-10", _ENTRY)
    prepare_once(root, _ENTRY, "CIFAR-10", lambda: _make_builder(root).download_and_prepare)
    (train, test), class_names = open_sources(root / _ENTRY, "CIFAR-10", ("train", "test"))
    return train, test, class_names


def _make_builder(root: Path) -> "_Builder":
    downloads = root / "downloads" / "cifar10"
    for leftover in downloads.glob("tmp*"):
        leftover.unlink()
    # The official archive, as its hash says: what it holds needs no checks.
    batches = _read_archive(_fetch_archive(downloads))
    builder = _Builder(data_dir=root, file_format="array_record")
    builder.batches = batches
    return builder


def _fetch_archive(downloads: Path) -> Path:
    archive = downloads / "cifar-10-binary.tar.gz"
    if archive.exists() and pooch.file_hash(str(archive)) == ARCHIVE_SHA256:
        return archive
    print(f"Downloading CIFAR-10 (170 MB) from {ARCHIVE_URL} to {archive}", file=sys.stderr)
    pooch.get_logger().setLevel("WARNING")  # It would say the same again.
    by_hand = f"place the archive by hand at {archive}, or give a data_dir that holds CIFAR-10"
    try:
        pooch.retrieve(
            ARCHIVE_URL,
            known_hash=ARCHIVE_SHA256,
            fname=archive.name,
            path=downloads,
            progressbar=sys.stderr.isatty(),
        )
    except requests.RequestException as error:
        raise InputError(f"cannot download {ARCHIVE_URL} ({one_line(error)}): try again, {by_hand}") from error
    except ValueError as error:
        raise InputError(f"{ARCHIVE_URL}: {one_line(error)} Try again, {by_hand}") from error
    return archive


def _read_archive(archive: Path) -> dict[str, np.ndarray]:
    """The six batch files by name, each uint8 [record, label and pixels=3073]; nothing is written to disk."""
    try:
        with tarfile.open(archive) as tar:
            contents = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}
        return {
            name: np.frombuffer(contents[name], np.uint8).reshape(-1, _RECORD_BYTES)
            for name in itertools.chain(*_SPLIT_FILES.values())
        }
    except Exception as error:  # tarfile, zlib and the disk raise many kinds.
        raise InputError(f"cannot read {archive} ({one_line(error)}): put the official archive in its place") from error


# TFDS has a data set of this name already, and refuses to register a second.
class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """CIFAR-10 from the records in `batches`, which is to be set before preparing."""

    name = "cifar10"
    VERSION = tfds.core.Version(_VERSION)
    batches: dict[str, np.ndarray]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="50,000 training and 10,000 test images, 32x32 in colour, in 10 classes.",
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=(32, 32, 3)),
                    "label": tfds.features.ClassLabel(names=CLASS_NAMES),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        return {split: self._generate_examples(split) for split in _SPLIT_FILES}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        records = itertools.chain.from_iterable(self.batches[name] for name in _SPLIT_FILES[split])
        for index, record in enumerate(records):
            # OpenCV encodes BGR images; the record holds an R, a G and a B plane.
            bgr = record[1:].reshape(3, 32, 32)[::-1].transpose(1, 2, 0)
            _, png = cv2.imencode(".png", np.ascontiguousarray(bgr))
            # The index as the key gives the order in which TFDS's own builder stores the images.
            yield (
                index,
                {"id": f"{split}_{index:05d}", "image": png.tobytes(), "label": int(record[0])},
            )
