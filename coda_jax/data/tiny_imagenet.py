"""Tiny-ImageNet, prepared without TensorFlow from an archive fetched by hand; its JPEG files are stored as they are.

The official archive has 200 classes, each with 500 training and 50 validation images of 64×64 pixels. A smaller one of
the same layout is read as well. The validation images are tested on: the labels of the test images are not public.

Source: Y. Le and X. Yang, "Tiny ImageNet Visual Recognition Challenge", Stanford CS231n, 2015.
"""

import collections
import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.hashing import Hasher

from coda_jax.data.prepared import Contents, open_sources, prepare_once, reading, root_of
from coda_jax.errors import InputError, one_line

ARCHIVE_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
_ENTRY = "tiny_imagenet/1.0.0"
_SIZE = 64
_FOLDER = "tiny-imagenet-200"
_REMEDY = f"fetch it anew from {ARCHIVE_URL}"
_MOST_BYTES = 10_000_000  # The official words.txt has 2.6 MB, an image 3 kB at most.


def data_sources(data_dir: str | None) -> tuple[Sequence, Sequence, tuple[str, ...]]:
    """Tiny-ImageNet's training examples, test examples and class names; it is prepared at the first use.

    It is prepared in `<data_dir>/tiny_imagenet/1.0.0` from `<data_dir>/downloads/manual/tiny-imagenet-200.zip` or, if
    that is missing, from the only `tiny-imagenet-*.zip` there. The archive may be deleted afterwards. Examples are
    {"image": uint8 [H=64, W=64, RGB=3], "label": int, "file_name": bytes}; classes are ordered by WordNet number.
    """
    root = root_of(data_dir, "Tiny-ImageNet", _ENTRY)
    if not (root / _ENTRY).exists():
        archive = _find_archive(root / "downloads" / "manual")
        prepare_once(root, _ENTRY, "Tiny-ImageNet", lambda: _contents(archive))
    return open_sources(root / _ENTRY, "Tiny-ImageNet", ("train", "validation"))


def _find_archive(manual: Path) -> Path:
    official = manual / "tiny-imagenet-200.zip"
    found = [official] if official.exists() else sorted(manual.glob("tiny-imagenet-*.zip"))
    if not found:
        raise InputError(f"Tiny-ImageNet is to be fetched by hand: download {ARCHIVE_URL} to {official}")
    if len(found) > 1:
        names = ", ".join(one_line(path.name) for path in found)
        raise InputError(f"{manual} has several archives of Tiny-ImageNet ({names}): leave one there")
    return found[0]


def _contents(path: Path) -> Contents:
    """All that the archive holds but the images, which are read when the examples are asked for."""
    with reading(path, _REMEDY):
        archive = zipfile.ZipFile(path)
        wnids = sorted(_lines(archive, "wnids.txt"))
        if len(set(wnids)) != len(wnids) or len(wnids) < 2:
            raise InputError("does not name two or more classes in wnids.txt, each once")
        if strange := [wnid for wnid in wnids if not re.fullmatch(r"n\d{8}", wnid)]:
            raise InputError(f"has a line in wnids.txt that is no WordNet number: {one_line(strange[0])!r}")
        images = {"train": _train_images(archive, wnids), "validation": _validation_images(archive, wnids)}
        names = _class_names(archive, wnids)

    def examples(split: str) -> Iterator[dict[str, Any]]:
        hasher = Hasher(split)  # The order is that in which TFDS's builders store examples.
        with reading(path, _REMEDY):
            for name in sorted(images[split], key=lambda name: hasher.hash_key(Path(name).name)):
                label = wnids.index(images[split][name])
                yield {"file_name": Path(name).name, "image": _read_image(archive, name), "label": label}

    features = {
        "file_name": tfds.features.Text(),
        "image": tfds.features.Image(shape=(_SIZE, _SIZE, 3), encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=names),
    }
    return features, {split: examples(split) for split in images}


def _train_images(archive: zipfile.ZipFile, wnids: list[str]) -> dict[str, str]:
    """The class of every training image by its path."""
    matches = (re.fullmatch(rf"{_FOLDER}/train/([^/]*)/images/[^/]+", name) for name in archive.namelist())
    images = {match[0]: match[1] for match in matches if match}
    if unknown := [name for name, wnid in images.items() if wnid not in wnids]:
        raise InputError(f"holds {one_line(min(unknown))}, of a class that wnids.txt does not name")
    if missing := set(wnids) - set(images.values()):
        raise InputError(f"has no training images of {min(missing)}")
    return images


def _validation_images(archive: zipfile.ZipFile, wnids: list[str]) -> dict[str, str]:
    images = {}
    lines = _lines(archive, "val/val_annotations.txt")
    for line in lines:
        file_name, wnid, *_ = *line.split("\t"), ""
        if wnid not in wnids:
            raise InputError(f"has a line in val_annotations.txt with no class of wnids.txt: {one_line(line)!r}")
        images[f"{_FOLDER}/val/images/{file_name}"] = wnid
    if not images or len(images) != len(lines):
        raise InputError("does not name one or more images in val_annotations.txt, each once")
    return images


def _class_names(archive: zipfile.ZipFile, wnids: list[str]) -> list[str]:
    """The first word for each class, or where classes share it, that and the WordNet number."""
    words = dict(line.split("\t", 1) for line in _lines(archive, "words.txt") if "\t" in line)
    first = {wnid: one_line(words.get(wnid, wnid).split(",")[0]) or wnid for wnid in wnids}
    counts = collections.Counter(first.values())
    return [word if counts[word] == 1 else f"{word} ({wnid})" for wnid, word in first.items()]


def _read_image(archive: zipfile.ZipFile, name: str) -> bytes:
    """The JPEG file, of 64×64 pixels as its header says."""
    content = _read(archive, name)
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            size = image.size
    except Exception as error:
        raise InputError(f"holds {one_line(name)}, which is no JPEG image") from error
    if size != (_SIZE, _SIZE):
        raise InputError(f"holds {one_line(name)} of {size[0]}×{size[1]} pixels, not {_SIZE}×{_SIZE}")
    return content


def _lines(archive: zipfile.ZipFile, name: str) -> list[str]:
    try:
        text = _read(archive, f"{_FOLDER}/{name}").decode()
    except UnicodeDecodeError as error:
        raise InputError(f"holds {name}, which is no text") from error
    return [line for line in text.splitlines() if line]


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        with archive.open(name) as file:
            content = file.read(_MOST_BYTES + 1)  # Not more is unpacked, whatever size the archive states.
    except KeyError as error:
        raise InputError(f"lacks {one_line(name)}") from error
    if len(content) > _MOST_BYTES:
        raise InputError(f"holds {one_line(name)} of more than {_MOST_BYTES} bytes")
    return content
