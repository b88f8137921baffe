"""ImageNet's 1,000 classes, or the first 100 of them, prepared without TensorFlow from archives fetched by hand.

All classes are written as TFDS's own `imagenet2012`, which other code reads as well, but in the order of the archives.
The first 100 are a data set of their own, `imagenet100`, a tenth of the size. Image files are stored as they are, but
for a few that are CMYK or PNG under the name of a JPEG: these become RGB JPEGs, as in TFDS's.

Source: O. Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015, https://image-net.org.
"""

import io
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from coda_jax.data.prepared import Contents, open_sources, prepare_once, reading, root_of
from coda_jax.data.preprocessing import Preprocessing, prepare, resize_shorter_side
from coda_jax.errors import InputError, one_line

_ALL_ENTRY = "imagenet2012/5.1.0"
_SPLITS = ("train", "validation")
_MOST_IMAGE_BYTES = 100_000_000  # The largest official image has 16 MB.
_REMEDY = "put the official archive in its place"
NOT_DECODED = {"image": tfds.decode.SkipDecoding()}


def data_sources(
    data_dir: str | None, classes: int, preprocessing: Preprocessing
) -> tuple[Sequence, Sequence, tuple[str, ...]]:
    """ImageNet's training examples, test examples and class names; it is prepared at the first use.

    All classes are prepared in `<data_dir>/imagenet2012/5.1.0`, the first 100 in `<data_dir>/imagenet100/1.0.0`, from
    `ILSVRC2012_img_train.tar` and `ILSVRC2012_img_val.tar` in `<data_dir>/downloads/manual`, which may be deleted
    afterwards; or the first 100 from all, where these are prepared and the archives are gone. `classes` is 100 or
    1,000; their names are WordNet numbers. Images are uint8 [H, W, RGB=3]: training images are whole, with the shorter
    side of `preprocessing`; test images, ImageNet's validation images, are squares of its size.
    """
    entry, title = {100: ("imagenet100/1.0.0", "ImageNet-100"), 1000: (_ALL_ENTRY, "ImageNet")}[classes]
    root = root_of(data_dir, title, entry)
    if not (root / entry).exists():
        contents = _contents(root, classes)
        prepare_once(root, entry, title, lambda: contents)
    train, test, class_names = open_sources(root / entry, title, _SPLITS, NOT_DECODED)
    return Images(train, preprocessing, resize_shorter_side), Images(test, preprocessing, centre), class_names


class Images:
    """Random access to {"image": uint8 [H, W, RGB=3], "label": int}; images are decoded and resized when asked for."""

    def __init__(
        self,
        source: Sequence[dict[str, Any]],
        preprocessing: Preprocessing,
        resize: Callable[[Image.Image, Preprocessing], np.ndarray],
    ) -> None:
        """Take the examples of `source`, whose images are the contents of files."""
        self._source, self._preprocessing, self._resize = source, preprocessing, resize

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self._source[index]
        with Image.open(io.BytesIO(example["image"])) as image:
            return {"image": self._resize(image, self._preprocessing), "label": example["label"]}


def centre(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """The centre of an image, uint8 [size, size, RGB=3]; arguments and errors are those of `prepare`."""
    return prepare(image, preprocessing)[0]


def _contents(root: Path, classes: int) -> Contents:
    """The first classes, from the archives or from all classes where these are prepared."""
    manual = root / "downloads" / "manual"
    train, validation = manual / "ILSVRC2012_img_train.tar", manual / "ILSVRC2012_img_val.tar"
    names = _lines("labels.txt")[:classes]
    if train.exists() and validation.exists():
        examples = {"train": _train_examples(train, names), "validation": _validation_examples(validation, names)}
    elif (root / _ALL_ENTRY).exists():
        *sources, _ = open_sources(root / _ALL_ENTRY, "ImageNet", _SPLITS, NOT_DECODED)
        examples = {
            split: (example for example in source if example["label"] < classes)
            for split, source in zip(_SPLITS, sources, strict=True)
        }
    else:
        raise InputError(
            f"ImageNet is to be fetched by hand: register at https://image-net.org/download-images, and put "
            f"{train.name} and {validation.name} into {manual}"
        )
    features = {
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=names),
        "file_name": tfds.features.Text(),
    }
    return features, examples


def _train_examples(path: Path, names: list[str]) -> Iterator[dict[str, Any]]:
    """Those of an archive that holds an archive for each class."""
    with reading(path, _REMEDY), tarfile.open(path, "r:") as tar:
        archives = {member.name: member for member in files(tar)}
        if missing := [name for name in names if f"{name}.tar" not in archives]:
            raise InputError(f"lacks {missing[0]}.tar")
        for label, name in enumerate(names):
            with tarfile.open(fileobj=tar.extractfile(archives[f"{name}.tar"]), mode="r:") as class_tar:
                for member in files(class_tar):
                    if not re.fullmatch(rf"{name}_\d+\.JPEG", member.name):
                        raise InputError(f"holds {one_line(member.name)} in {name}.tar, which is no image of the class")
                    yield {"file_name": member.name, "image": image_file(class_tar, member), "label": label}


def _validation_examples(path: Path, names: list[str]) -> Iterator[dict[str, Any]]:
    """Those of the archive of validation images that are of the classes in `names`."""
    classes = _lines("validation_labels.txt")  # In the order of the images' numbers.
    with reading(path, _REMEDY), tarfile.open(path, "r:") as tar:
        for member in files(tar):
            match = re.fullmatch(r"ILSVRC2012_val_(\d{8})\.JPEG", member.name)
            if not match or not 1 <= int(match[1]) <= len(classes):
                raise InputError(f"holds {one_line(member.name)}, which is no validation image")
            name = classes[int(match[1]) - 1]
            if name in names:
                yield {"file_name": member.name, "image": image_file(tar, member), "label": names.index(name)}


def _lines(name: str) -> list[str]:
    """Of a text file that is part of TFDS."""
    return tfds.core.tfds_path(f"datasets/imagenet2012/{name}").read_text().split()


def files(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members of an archive that are files; raises tarfile.ReadError for one that would lead back."""
    for member in tar:
        if member.size < 0:  # tarfile would find the same members without end.
            raise tarfile.ReadError("a member has a negative size")
        if member.isfile() and not member.issparse():
            yield member


def image_file(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The content of a JPEG file in an archive, made from the image where that is CMYK or no JPEG.

    Raises InputError for what is no image, or has more bytes than an image can have.
    """
    if member.size > _MOST_IMAGE_BYTES:
        raise InputError(f"holds {one_line(member.name)} of {member.size} bytes")
    content = tar.extractfile(member).read()
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG", "PNG"]) as image:
            if content.startswith(b"\xff\xd8") and image.mode in ("L", "RGB"):
                return content
            jpeg = io.BytesIO()
            image.convert("RGB").save(jpeg, "JPEG", quality=100, subsampling=0)
            return jpeg.getvalue()
    except Exception as error:  # Whatever a damaged file makes of Pillow's decoders.
        raise InputError(f"holds {one_line(member.name)}, which is no image") from error
