"""Imagenette, ten classes of ImageNet that are easily told apart, in the form of TFDS's `imagenette/160px-v2`.

It is prepared without TensorFlow, from the official archive, whose images have a shorter side of 160 pixels. Their
files are stored as they are. The validation images are tested on.

Source: J. Howard, Imagenette, https://github.com/fastai/imagenette. The archive's hash is that in TFDS 4.9.10.
"""

import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core.hashing import Hasher

from coda_jax.data.download import fetch_archive
from coda_jax.data.imagenet import NOT_DECODED, Images, centre, files, image_file
from coda_jax.data.prepared import Contents, open_sources, prepare_once, reading, root_of
from coda_jax.data.preprocessing import Preprocessing, resize_shorter_side
from coda_jax.errors import InputError, one_line

ARCHIVE_URL = "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz"
ARCHIVE_SHA256 = "64d0c4859f35a461889e0147755a999a48b49bf38a7e0f9bd27003f10db02fe5"
CLASS_NAMES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
"""By WordNet number, which is how TFDS names them, in its order."""
ABOUT = {
    "description": "[Imagenette](https://github.com/fastai/imagenette) (`coda_jax.data.load('imagenette', "
    "image_size=SIZE)`), version 2, with a shorter side of 160 pixels: 9,469 photographs of ten classes of ImageNet to "
    "train on, and 3,925 others to test on. Source: J. Howard, fast.ai.",
    "licence": "ImageNet's, for research and education that are not commercial",
}
"""For the cards of networks that were trained on it."""

_TITLE = "Imagenette"
_ENTRY = "imagenette/160px-v2/1.0.0"
_SHORTER_SIDE = 160
_SPLITS = {"train": "train", "val": "validation"}  # By the archive's folders.


def data_sources(data_dir: str | None, preprocessing: Preprocessing) -> tuple[Sequence, Sequence, tuple[str, ...]]:
    """Imagenette's training examples, test examples and class names; it is downloaded and prepared at the first use.

    It is prepared in `<data_dir>/imagenette/160px-v2/1.0.0`, from `imagenette2-160.tgz` or `.tar` in
    `<data_dir>/downloads/manual`, or else from the official archive (99 MB) in `<data_dir>/downloads/imagenette`; they
    may be deleted afterwards. Images are uint8 [H, W, RGB=3]: test images are squares of the `preprocessing`'s size,
    training images are whole, with a shorter side of 160 pixels, or of the size where that is larger.
    """
    root = root_of(data_dir, _TITLE, _ENTRY)
    prepare_once(root, _ENTRY, _TITLE, lambda: _contents(root / "downloads"))
    train, test, numbers = open_sources(root / _ENTRY, _TITLE, ("train", "validation"), NOT_DECODED)
    whole = preprocessing._replace(shorter_side=max(preprocessing.size, _SHORTER_SIDE))
    names = tuple(CLASS_NAMES.get(number, number) for number in numbers)
    return Images(train, whole, resize_shorter_side), Images(test, preprocessing, centre), names


def _contents(downloads: Path) -> Contents:
    by_hand = [downloads / "manual" / f"imagenette2-160.{ending}" for ending in ("tgz", "tar")]
    archive = next((path for path in by_hand if path.exists()), None)
    if archive is None:
        archive = fetch_archive(ARCHIVE_URL, ARCHIVE_SHA256, downloads / "imagenette", _TITLE, "99 MB")
    numbers = list(CLASS_NAMES)
    images: dict[str, dict[str, tuple[bytes, int]]] = {split: {} for split in _SPLITS.values()}
    with reading(archive, f"put the official archive in its place, {ARCHIVE_URL}"), tarfile.open(archive) as tar:
        for member in files(tar):
            match = re.fullmatch(r"(?:\./)?imagenette2-160/(train|val)/([^/]+)/([^/]+\.JPEG)", member.name)
            if match:
                folder, number, name = match.groups()
                if number not in numbers:
                    raise InputError(f"holds {one_line(member.name)}, which is of no class of Imagenette")
                images[_SPLITS[folder]][name] = image_file(tar, member), numbers.index(number)
        for folder, split in _SPLITS.items():
            if missing := sorted(set(range(len(numbers))) - {label for _, label in images[split].values()}):
                raise InputError(f"has no images in imagenette2-160/{folder}/{numbers[missing[0]]}")

    def examples(split: str) -> Iterator[dict[str, Any]]:
        # The order of TFDS's own builder.
        for name in sorted(images[split], key=Hasher(split).hash_key):
            content, label = images[split][name]
            yield {"image": content, "label": label}

    features = {
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=numbers),
    }
    return features, {split: examples(split) for split in images}
