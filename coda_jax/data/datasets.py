"""Data sets by name."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from coda_jax.checks import check_whole
from coda_jax.data.preprocessing import Preprocessing
from coda_jax.errors import InputError, RunError, one_line
from coda_jax.extras import need

_LARGEST_IMAGE_SIZE = 4096


class DatasetInfo(NamedTuple):
    """What is to be known of a data set where its images are not at hand.

    Attributes:
        class_names: the name of each label, in the labels' order.
        preprocessing: how any other image becomes one of the kind that the data set holds.
    """

    class_names: tuple[str, ...]
    preprocessing: Preprocessing


def check_info(info: DatasetInfo, classes: int) -> None:
    """Raise InputError unless `info` is of a data set of so many classes."""
    if not isinstance(info, DatasetInfo):
        raise InputError(f"info must be a DatasetInfo or None, not {info!r}")
    if len(info.class_names) != classes:
        raise InputError(f"info has {len(info.class_names)} class_names, but the network {classes} classes")


def info_entries(info: DatasetInfo) -> dict[str, Any]:
    """What a JSON file holds of it, from which `make_info` makes it again."""
    return {"class_names": list(info.class_names), "preprocessing": info.preprocessing._asdict()}


def make_info(class_names: Any, preprocessing: Any) -> DatasetInfo:
    """The information in a file; raises InputError where it is none."""
    if not isinstance(class_names, list) or not all(isinstance(name, str) for name in class_names):
        raise InputError("class_names must be a list of names")
    if not isinstance(preprocessing, dict) or set(preprocessing) != set(Preprocessing._fields):
        raise InputError(f"preprocessing must have the entries {', '.join(Preprocessing._fields)}")
    made = Preprocessing(**preprocessing)
    check_whole("size", made.size)
    check_whole("shorter_side", made.shorter_side, made.size)
    if not isinstance(made.grey, bool):
        raise InputError(f"grey must be true or false, not {made.grey!r}")
    return DatasetInfo(tuple(class_names), made)


class Dataset(NamedTuple):
    """Training and test examples.

    Attributes:
        train: random access to {"image": uint8 [H, W, 3], "label": int}. Images may be larger than the size that
            `info.preprocessing` has, and of differing sizes: they are cropped at random in training.
        test: likewise, but all images are squares of that size.
        info: of the labels and the images.
    """

    train: Sequence[dict[str, Any]]
    test: Sequence[dict[str, Any]]
    info: DatasetInfo


def load(name: str, data_dir: str | None = None, image_size: int | None = None) -> Dataset:
    """Open a data set, after downloading and preparing it where that has not been done yet.

    Args:
        name: "cifar10", "digits" (part of scikit-learn, nothing is downloaded), "tiny_imagenet", "imagenet100" or
            "imagenet" (archives fetched by hand), or "image_folder", images of one's own.
        data_dir: the directory of prepared TFDS data sets, None for TFDS's default; or the folder of the images, as
            `coda_jax.data.image_folder` has it.
        image_size: height and width in pixels to which images of one's own are brought; None for the other data sets,
            which have sizes of their own.

    Raises:
        InputError: an unknown name, or data that cannot be read or prepared. A single damaged example raises RunError
            when it is read.
    """
    if data_dir is not None and not isinstance(data_dir, str | os.PathLike):
        raise InputError(f"data_dir must be a path, not {data_dir!r}")
    if not isinstance(name, str):
        raise InputError(f"name must be that of a data set, not {name!r}")
    if name in ("cifar10", "digits", "tiny_imagenet", "imagenet100", "imagenet") and image_size is not None:
        raise InputError(f"image_size is {image_size!r}, but the images of {name} have a size of their own: use None")
    need("train", "cv2", "pooch", "sklearn", "tensorflow_datasets")
    # Imported here because each needs libraries that the others do not.
    if name == "cifar10":
        from coda_jax.data import cifar10

        train, test, class_names = cifar10.data_sources(data_dir)
        preprocessing = Preprocessing(size=32, shorter_side=32)
    elif name == "digits":
        from coda_jax.data import digits

        train, test, class_names = digits.data_sources()
        preprocessing = Preprocessing(size=8, shorter_side=8, grey=True)
    elif name == "tiny_imagenet":
        from coda_jax.data import tiny_imagenet

        train, test, class_names = tiny_imagenet.data_sources(data_dir)
        preprocessing = Preprocessing(size=64, shorter_side=64)
    elif name in ("imagenet100", "imagenet"):
        from coda_jax.data import imagenet

        preprocessing = Preprocessing(size=240, shorter_side=256)  # Of the paper.
        train, test, class_names = imagenet.data_sources(
            data_dir, 100 if name == "imagenet100" else 1000, preprocessing
        )
    elif name == "image_folder":
        from coda_jax.data import image_folder

        check_whole("image_size", image_size)
        assert image_size is not None  # As it is a whole number.
        if image_size > _LARGEST_IMAGE_SIZE:
            raise InputError(f"image_size must be at most {_LARGEST_IMAGE_SIZE}, not {image_size}")
        preprocessing = Preprocessing(size=image_size, shorter_side=image_size)
        train, test, class_names = image_folder.data_sources(data_dir, preprocessing)
    else:
        known = "cifar10, digits, tiny_imagenet, imagenet100, imagenet or image_folder"
        raise InputError(f"there is no data set {name!r}: choose {known}")
    return Dataset(_Examples(train, "training"), _Examples(test, "test"), DatasetInfo(class_names, preprocessing))


class _Examples:
    """Examples of which one that cannot be read is named."""

    def __init__(self, source: Sequence[dict[str, Any]], kind: str):
        self._source, self._kind = source, kind

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            return self._source[index]
        except RunError:  # It names the file.
            raise
        except Exception as error:  # Whatever the format's library makes of damage.
            if index >= len(self):
                raise
            reason = one_line(error)[:200]
            raise RunError(
                f"{self._kind} example {index}, counted from 0, cannot be read ({reason}): put back an undamaged copy "
                "of the data set, or delete it to have it prepared anew"
            ) from error
