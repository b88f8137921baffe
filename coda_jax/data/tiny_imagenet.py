"""Tiny-ImageNet as random-access TFDS data sources, prepared without TensorFlow from an archive fetched by hand.

The official archive has 200 classes, with 500 training and 50 validation images of 64×64 pixels each. One of the same
layout with fewer classes or images is read as well. The validation images are what is tested on: the labels of the
official test images are not public. The JPEG files are stored as they are.

Source: Y. Le and X. Yang, "Tiny ImageNet Visual Recognition Challenge", Stanford CS231n, 2015.
"""

import collections
import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import tensorflow_datasets as tfds
from PIL import Image

from coda_jax.data.prepared import open_sources, prepare_once, root_of
from coda_jax.errors import InputError, one_line

ARCHIVE_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"

_VERSION = "1.0.0"
_ENTRY = f"tiny_imagenet/{_VERSION}"
_SIZE = 64
_FOLDER = "tiny-imagenet-200"
_REMEDY = f"fetch it anew from {ARCHIVE_URL}"
# The official words.txt has 2.6 MB, an image 3 kB at most.
_MOST_BYTES = 10_000_000


def data_sources(data_dir: str | None) -> tuple[Sequence, Sequence, tuple[str, ...]]:
    """Opens Tiny-ImageNet, after preparing it where that has not been done yet.

    It is prepared in `<data_dir>/tiny_imagenet/1.0.0` from `<data_dir>/downloads/manual/tiny-imagenet-200.zip` or, if
    that is missing, from the only `tiny-imagenet-*.zip` there. The archive may be deleted afterwards.

    Args:
        data_dir: An existing directory of TFDS data sets, or None for TFDS's default.

    Returns:
        `(train, test, class_names)`. Each of `train` and `test` has a length and, at an integer index, a dict of
        "image": uint8 [height=64, width=64, RGB=3], "label": int that indexes `class_names`, and "file_name": bytes.
        The classes are in the order of their WordNet numbers.

    Raises:
        InputError: `data_dir` or the archive is missing; the archive is damaged, or has another layout; or the data set
            cannot be prepared or read.
    """
    root = root_of(data_dir, "Tiny-ImageNet", _ENTRY)
    if not (root / _ENTRY).exists():
        archive = _find_archive(root)
        prepare_once(root, _ENTRY, "Tiny-ImageNet", lambda: _Builder(archive, root).download_and_prepare)
    (train, test), class_names = open_sources(root / _ENTRY, "Tiny-ImageNet", ("train", "validation"))
    return train, test, class_names


def _find_archive(root: Path) -> Path:
    manual = root / "downloads" / "manual"
    official = manual / "tiny-imagenet-200.zip"
    if official.exists():
        return official
    found = sorted(manual.glob("tiny-imagenet-*.zip"))
    if not found:
        raise InputError(f"Tiny-ImageNet is to be fetched by hand: download {ARCHIVE_URL} to {official}")
    if len(found) > 1:
        names = ", ".join(one_line(path.name) for path in found)
        raise InputError(f"{manual} has several archives of Tiny-ImageNet ({names}): leave one there")
    return found[0]


class _Archive:
    """The archive's images, by their paths, and what they show; raises InputError wherever something is wrong."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except Exception as error:  # zipfile raises many kinds for headers that make no sense.
            raise self._error(f"cannot be read ({one_line(error)})") from error
        self._names = set(self._zip.namelist())
        self.wnids = sorted(self._lines("wnids.txt"))
        if len(set(self.wnids)) != len(self.wnids) or len(self.wnids) < 2:
            raise self._error("does not name two or more classes in wnids.txt, each once")
        if strange := [wnid for wnid in self.wnids if not re.fullmatch(r"n\d{8}", wnid)]:
            raise self._error(f"has a line in wnids.txt that is no WordNet number: {one_line(strange[0])!r}")
        self.images = {"train": self._train_images(), "validation": self._validation_images()}

    def class_names(self) -> list[str]:
        """The first word for each class, or where classes share it, that and the WordNet number."""
        words = dict(line.split("\t", 1) for line in self._lines("words.txt") if "\t" in line)
        first = {wnid: one_line(words.get(wnid, wnid).split(",")[0]) or wnid for wnid in self.wnids}
        counts = collections.Counter(first.values())
        return [word if counts[word] == 1 else f"{word} ({wnid})" for wnid, word in first.items()]

    def read_image(self, name: str) -> bytes:
        """The JPEG file, of 64×64 pixels as its header says."""
        content = self._read(name)
        try:
            with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
                size = image.size
        except Exception as error:
            raise self._error(f"holds {one_line(name)}, which is no JPEG image") from error
        if size != (_SIZE, _SIZE):
            raise self._error(f"holds {one_line(name)} of {size[0]}×{size[1]} pixels, not {_SIZE}×{_SIZE}")
        return content

    def _train_images(self) -> list[tuple[str, str]]:
        """(Path, class) of every training image."""
        known = set(self.wnids)
        images = []
        for name in sorted(self._names):
            parts = name.split("/")
            if parts[:2] == [_FOLDER, "train"] and len(parts) == 5 and parts[3] == "images" and parts[4]:
                if parts[2] not in known:
                    raise self._error(f"holds {one_line(name)}, of a class that wnids.txt does not name")
                images.append((name, parts[2]))
        if missing := known - {wnid for _, wnid in images}:
            raise self._error(f"has no training images of {min(missing)}")
        return images

    def _validation_images(self) -> list[tuple[str, str]]:
        """(Path, class) of every validation image."""
        known = set(self.wnids)
        images = []
        for line in self._lines("val/val_annotations.txt"):
            file_name, wnid, *_ = *line.split("\t"), ""
            if wnid not in known:
                raise self._error(f"has a line in val_annotations.txt with no class of wnids.txt: {one_line(line)!r}")
            images.append((f"{_FOLDER}/val/images/{file_name}", wnid))
        if not images or len({path for path, _ in images}) != len(images):
            raise self._error("does not name one or more images in val_annotations.txt, each once")
        return images

    def _lines(self, name: str) -> list[str]:
        try:
            text = self._read(f"{_FOLDER}/{name}").decode()
        except UnicodeDecodeError as error:
            raise self._error(f"holds {name}, which is no text") from error
        return [line for line in text.splitlines() if line]

    def _read(self, name: str) -> bytes:
        if name not in self._names:
            raise self._error(f"lacks {one_line(name)}")
        try:
            # Not more than this is unpacked, whatever size the archive states.
            with self._zip.open(name) as file:
                content = file.read(_MOST_BYTES + 1)
        except Exception as error:
            raise self._error(f"cannot be read ({one_line(error)})") from error
        if len(content) > _MOST_BYTES:
            raise self._error(f"holds {one_line(name)} of more than {_MOST_BYTES} bytes")
        return content

    def _error(self, reason: str) -> InputError:
        return InputError(f"{self._path} {reason}: {_REMEDY}")


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Tiny-ImageNet from an archive."""

    name = "tiny_imagenet"
    VERSION = tfds.core.Version(_VERSION)

    def __init__(self, archive: Path, root: Path) -> None:
        self._archive = _Archive(archive)
        super().__init__(data_dir=root, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        images = self._archive.images
        return tfds.core.DatasetInfo(
            builder=self,
            description=(
                f"{len(images['train'])} training and {len(images['validation'])} validation images of 64×64 pixels, "
                f"in {len(self._archive.wnids)} classes."
            ),
            features=tfds.features.FeaturesDict(
                {
                    "file_name": tfds.features.Text(),
                    "image": tfds.features.Image(shape=(_SIZE, _SIZE, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=self._archive.class_names()),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="http://cs231n.stanford.edu",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        return {split: self._generate_examples(split) for split in self._archive.images}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
        for path, wnid in self._archive.images[split]:
            file_name = path.rpartition("/")[-1]
            image = self._archive.read_image(path)
            yield file_name, {"file_name": file_name, "image": image, "label": self._archive.wnids.index(wnid)}
