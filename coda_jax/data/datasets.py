"""Data sets by name."""

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from coda_jax.data.description import DatasetInfo, Preprocessing
from coda_jax.errors import InputError, RunError, one_line
from coda_jax.errors.checks import check_whole
from coda_jax.errors.extras import need


class Source(NamedTuple):
    """Where `load` finds a data set: a module of `coda_jax.data`, imported when it is needed.

    Its `data_sources(data_dir, **options)` gives the training examples, the test examples and the class names.
    `preprocessing` makes other images like them; if it is None, it follows from `image_size`, and is among the options.
    """

    module: str
    preprocessing: Preprocessing | None
    options: dict[str, Any] = {}


_LARGEST_IMAGE_SIZE = 4096
_OF_THE_PAPER = Preprocessing(size=240, shorter_side=256)
DATASETS = {
    "cifar10": Source("cifar10", Preprocessing(size=32, shorter_side=32)),
    "digits": Source("digits", Preprocessing(size=8, shorter_side=8, grey=True)),
    "tiny_imagenet": Source("tiny_imagenet", Preprocessing(size=64, shorter_side=64)),
    "imagenet100": Source("imagenet", _OF_THE_PAPER, {"classes": 100, "preprocessing": _OF_THE_PAPER}),
    "imagenet": Source("imagenet", _OF_THE_PAPER, {"classes": 1000, "preprocessing": _OF_THE_PAPER}),
    "imagenette": Source("imagenette", preprocessing=None),
    "image_folder": Source("image_folder", preprocessing=None),
}
"""All data sets by name: another one is a module and a line here."""


class Dataset(NamedTuple):
    """Random access to training and test examples, each {"image": uint8 [H, W, RGB=3], "label": int}.

    Test images are squares of the size in `info.preprocessing`. Training images may be larger, and of differing sizes:
    they are cropped at random in training.
    """

    train: Sequence[dict[str, Any]]
    test: Sequence[dict[str, Any]]
    info: DatasetInfo


def load(name: str, data_dir: str | None = None, image_size: int | None = None) -> Dataset:
    """Open a data set, after downloading and preparing it where that has not been done yet.

    Raises InputError for an unknown name, or for data that cannot be read or prepared. A single damaged example raises
    RunError when it is read.

    Args:
        name: one of `DATASETS`. The ImageNets' archives are fetched by hand; "image_folder" is images of one's own.
        data_dir: the directory of prepared TFDS data sets, None for TFDS's default; or the folder of the images.
        image_size: the height and width in pixels to which images of one's own, and Imagenette's, are brought; None for
            other data sets.
    """
    if data_dir is not None and not isinstance(data_dir, str | os.PathLike):
        raise InputError(f"data_dir must be a path, not {data_dir!r}")
    if not isinstance(name, str):
        raise InputError(f"name must be that of a data set, not {name!r}")
    if name not in DATASETS:
        *others, last = DATASETS
        raise InputError(f"there is no data set {name!r}: choose {', '.join(others)} or {last}")
    module, preprocessing, options = DATASETS[name]
    if preprocessing is None:
        check_whole("image_size", image_size)
        assert image_size is not None  # As it is a whole number.
        if image_size > _LARGEST_IMAGE_SIZE:
            raise InputError(f"image_size must be at most {_LARGEST_IMAGE_SIZE}, not {image_size}")
        preprocessing = Preprocessing(size=image_size, shorter_side=image_size)
        options = {"preprocessing": preprocessing}
    elif image_size is not None:
        raise InputError(f"image_size is {image_size!r}, but the images of {name} have a size of their own: use None")
    need("train", "cv2", "pooch", "sklearn", "tensorflow_datasets")
    train, test, class_names = import_module(f"coda_jax.data.{module}").data_sources(data_dir, **options)
    return Dataset(_Examples(train, "training"), _Examples(test, "test"), DatasetInfo(class_names, preprocessing))


class _Examples:
    """Examples of which one that cannot be read is named."""

    def __init__(self, source: Sequence[dict[str, Any]], kind: str):
        self._source, self._kind = source, kind

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index >= len(self):  # Also what ends a `for`.
            raise IndexError(f"there is no {self._kind} example {index}, counted from 0, but {len(self)} in all")
        try:
            return self._source[index]
        except RunError:  # It names the file.
            raise
        except Exception as error:  # Whatever the format's library makes of damage.
            reason = one_line(error)[:200]
            raise RunError(
                f"{self._kind} example {index}, counted from 0, cannot be read ({reason}): put back an undamaged copy "
                "of the data set, or delete it to have it prepared anew"
            ) from error
