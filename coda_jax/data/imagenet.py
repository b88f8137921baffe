"""ImageNet's 1,000 classes, or the first 100 of them, as random-access TFDS data sources without TensorFlow.

TFDS's own `imagenet2012` builder needs TensorFlow to prepare the data. Here the same official archives are read, which
are fetched by hand, and the same data set (name, version, features) is written as ArrayRecord files, so that
`tfds.data_source("imagenet2012")` in other code reads it as well; only the order is another, that of the archives. The
first 100 classes are a data set of their own, `imagenet100`, a tenth of the size. Image files are stored as they are,
but for a few that are CMYK or PNG under the name of a JPEG: these become RGB JPEGs, as in TFDS's.

Source: O. Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015, https://image-net.org.
"""

import contextlib
import io
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from coda_jax.data.prepared import open_sources, prepare_once, root_of
from coda_jax.data.preprocessing import Preprocessing, prepare, resize_shorter_side
from coda_jax.errors import InputError, one_line

_ALL_ENTRY = "imagenet2012/5.1.0"
_FIRST_100_ENTRY = "imagenet100/1.0.0"
_SPLITS = ("train", "validation")
# Of 110 kB each.
_EXAMPLES_PER_FILE = 1000
# The largest official image has 16 MB.
_MOST_IMAGE_BYTES = 100_000_000
_NOT_DECODED = {"image": tfds.decode.SkipDecoding()}

_Example = dict[str, Any]
"""{"file_name": str, "image": the content of the file, "label": int}."""


def data_sources(
    data_dir: str | None, classes: int, preprocessing: Preprocessing
) -> tuple[Sequence, Sequence, tuple[str, ...]]:
    """Opens ImageNet, after preparing it where that has not been done yet.

    All classes are prepared in `<data_dir>/imagenet2012/5.1.0`, the first 100 in `<data_dir>/imagenet100/1.0.0`, from
    the official archives `ILSVRC2012_img_train.tar` and `ILSVRC2012_img_val.tar` in `<data_dir>/downloads/manual`,
    which may be deleted afterwards; or the first 100 from all, where these are prepared and the archives are gone.

    Args:
        data_dir: An existing directory of TFDS data sets, or None for TFDS's default.
        classes: 100 or 1,000.
        preprocessing: How images are resized, and those for tests cropped.

    Returns:
        `(train, test, class_names)`. Each of `train` and `test`, which are ImageNet's validation images, has a length
        and, at an integer index, a dict of "image": uint8 [H, W, RGB=3], and "label": int that indexes `class_names`.
        Training images are whole, with the shorter side of `preprocessing`; test images are squares of its size. They
        are decoded when they are asked for. The names are WordNet numbers, in whose order the classes are.

    Raises:
        InputError: `data_dir` or the archives are missing; an archive is damaged, or has another layout; or the data
            set cannot be prepared or read.
    """
    entry, title = {100: (_FIRST_100_ENTRY, "ImageNet-100"), 1000: (_ALL_ENTRY, "ImageNet")}[classes]
    root = root_of(data_dir, title, entry)
    if not (root / entry).exists():
        examples = _examples(root, classes)
        prepare_once(root, entry, title, lambda: partial(_write, examples, root / entry, classes))
    (train, test), class_names = open_sources(root / entry, title, _SPLITS, _NOT_DECODED)
    return (
        Images(train, partial(resize_shorter_side, preprocessing=preprocessing)),
        Images(test, partial(_centre, preprocessing=preprocessing)),
        class_names,
    )


class Images:
    """Random access to examples whose images are decoded and resized when they are asked for."""

    def __init__(self, source: Sequence[dict[str, Any]], resize: Callable[[Image.Image], np.ndarray]) -> None:
        """Have the examples of `source`, whose images are the contents of files, as `resize` makes them."""
        self._source, self._resize = source, resize

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """{"image": uint8 [H, W, RGB=3], "label": int}."""
        example = self._source[index]
        with Image.open(io.BytesIO(example["image"])) as image:
            return {"image": self._resize(image), "label": example["label"]}


def _centre(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    return prepare(image, preprocessing)[0]


def _examples(root: Path, classes: int) -> dict[str, Iterator[_Example]]:
    """The examples of every split, which are read as they are asked for."""
    manual = root / "downloads" / "manual"
    train, validation = manual / "ILSVRC2012_img_train.tar", manual / "ILSVRC2012_img_val.tar"
    if train.exists() and validation.exists():
        return {"train": _train_examples(train, classes), "validation": _validation_examples(validation, classes)}
    everything = root / _ALL_ENTRY
    if everything.exists():
        sources, _ = open_sources(everything, "ImageNet", _SPLITS, _NOT_DECODED)
        return {split: _prepared_examples(source, classes) for split, source in zip(_SPLITS, sources, strict=True)}
    raise InputError(
        f"ImageNet is to be fetched by hand: register at https://image-net.org/download-images, and put {train.name} "
        f"and {validation.name} into {manual}"
    )


def _prepared_examples(source: Sequence[dict[str, Any]], classes: int) -> Iterator[_Example]:
    """Those of the first classes."""
    for index in range(len(source)):
        example = source[index]
        if example["label"] < classes:
            yield example


def _train_examples(path: Path, classes: int) -> Iterator[_Example]:
    """Those of an archive that holds an archive for each class."""
    with _reading(path), tarfile.open(path, "r:") as tar:
        archives = {member.name: member for member in _files(tar)}
        names = _class_names()[:classes]
        if missing := [name for name in names if f"{name}.tar" not in archives]:
            raise InputError(f"lacks {missing[0]}.tar")
        for label, name in enumerate(names):
            with tarfile.open(fileobj=tar.extractfile(archives[f"{name}.tar"]), mode="r:") as class_tar:
                for member in _files(class_tar):
                    if not re.fullmatch(rf"{name}_\d+\.JPEG", member.name):
                        raise InputError(f"holds {one_line(member.name)} in {name}.tar, which is no image of the class")
                    image = _image_file(class_tar, member)
                    yield {"file_name": member.name, "image": image, "label": label}


def _validation_examples(path: Path, classes: int) -> Iterator[_Example]:
    """Those of the archive of validation images, of the first classes."""
    numbers = {name: number for number, name in enumerate(_class_names()[:classes])}
    # In the order of the images' numbers; it is part of TFDS.
    labels = _lines("validation_labels.txt")
    with _reading(path), tarfile.open(path, "r:") as tar:
        for member in _files(tar):
            match = re.fullmatch(r"ILSVRC2012_val_(\d{8})\.JPEG", member.name)
            if not match or not 1 <= int(match[1]) <= len(labels):
                raise InputError(f"holds {one_line(member.name)}, which is no validation image")
            label = numbers.get(labels[int(match[1]) - 1])
            if label is not None:
                yield {"file_name": member.name, "image": _image_file(tar, member), "label": label}


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Make InputErrors, which name the archive, of all that goes wrong while it is read."""
    try:
        yield
    except Exception as error:  # tarfile raises many kinds for headers that make no sense.
        reason = error if isinstance(error, InputError) else f"cannot be read ({one_line(error)})"
        raise InputError(f"{path} {reason}: put the official archive in its place") from error


def _files(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in tar:
        if member.size < 0:  # tarfile would find the same members without end.
            raise tarfile.ReadError("a member has a negative size")
        if member.isfile() and not member.issparse():
            yield member


def _image_file(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The content of a JPEG file, made from the image where that is CMYK or no JPEG."""
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


def _class_names() -> list[str]:
    return _lines("labels.txt")


def _lines(name: str) -> list[str]:
    """Of a text file that is part of TFDS."""
    return tfds.core.tfds_path(f"datasets/imagenet2012/{name}").read_text().split()


def _write(examples: dict[str, Iterator[_Example]], directory: Path, classes: int) -> None:
    """Write the data set into its directory, which need not be there."""
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=_class_names()[:classes]),
            "file_name": tfds.features.Text(),
        }
    )
    with tfds.core.utils.incomplete_dir(directory) as incomplete:
        identity = tfds.core.dataset_info.DatasetIdentity(
            name=directory.parent.name, version=directory.name, data_dir=incomplete, module_name=__name__
        )
        info = tfds.core.DatasetInfo(
            builder=identity,
            description=f"ImageNet's training and validation images in {classes} classes.",
            features=features,
            supervised_keys=("image", "label"),
            homepage="https://image-net.org/",
        )
        # A builder that is a GeneratorBasedBuilder would sort what is larger than a gigabyte with TensorFlow.
        writer = tfds.core.SequentialWriter(info, _EXAMPLES_PER_FILE, file_format="array_record")
        writer.initialize_splits(list(_SPLITS))
        writer.add_examples({split: examples[split] for split in _SPLITS})
        writer.close_all()
