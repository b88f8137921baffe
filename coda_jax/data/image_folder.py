"""Images of one's own, in a folder with a subfolder for each class.

The folder is either split, into `train/CLASS` and `test/CLASS` or `val/CLASS`, or it has `CLASS` alone, and a fifth of
every class is held back to be tested on. The images of a class may lie in further folders within its own. Hidden files
and folders are passed over, links are followed, and files that are not named as images are skipped.

The order of the images, and which of them are held back, are functions of their paths in the folder alone: the same on
every machine and file system. An image that is added later leaves nearly all others where they are.
"""

import hashlib
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from coda_jax.data.description import DatasetInfo
from coda_jax.data.preprocessing import Preprocessing, read_image
from coda_jax.errors import InputError, RunError, one_line

SUFFIXES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""How the names of images end, in small or capital letters."""

_LISTED_NAMES = 10

# (a number for the order, the path) of every image, by class.
_Images = dict[str, list[tuple[bytes, str]]]


def class_names(directory: str | os.PathLike | None) -> tuple[str, ...]:
    """The names of the classes, which are those of the subfolders, sorted.

    Args:
        directory: the folder.

    Raises:
        InputError: it cannot be read, or there are fewer than two classes.
    """
    train, _ = _split(directory)
    names = tuple(entry.name for entry in _entries(train) if entry.is_dir())
    if len(names) < 2:
        found = f"only {one_line(names[0])} is there" if names else "there is none"
        raise InputError(
            f"{_shown(train)} must have a subfolder of images for each of two or more classes, but {found}"
        )
    return names


def data_sources(
    directory: str | os.PathLike | None, preprocessing: Preprocessing
) -> tuple[Sequence[dict[str, Any]], Sequence[dict[str, Any]], tuple[str, ...]]:
    """The images of a folder, which are read when they are asked for.

    What is tested on is `test` if it is there, otherwise `val`, otherwise a fifth of every class. A line on standard
    error says so, with the numbers of classes and images; a second one tells how many files were skipped.

    Args:
        directory: the folder.
        preprocessing: how images become squares of one size.

    Returns:
        `(train, test, class_names)`. Each of `train` and `test` has a length and, at an index, a dict of "image": uint8
        [size, size, RGB=3], and "label": int that indexes `class_names`. The classes are mixed, so that the first
        images are of many. An image that cannot be read raises RunError, which names the file.

    Raises:
        InputError: the folder cannot be read; there are fewer than two classes; a class has no images, or just one of
            which none can be held back; or images to be tested on are of no class that is trained on.
    """
    names = class_names(directory)
    train_folder, test_folders = _split(directory)
    train, skipped = _find_classes(train_folder)
    needed = 1 if test_folders else 2
    for name, images in train.items():
        if len(images) < needed:
            raise InputError(
                f"{_shown(train_folder / name)} has {len(images)} images, but needs {needed} at least: add images, or "
                "remove the folder"
            )
    if test_folders:
        test, others = _find_classes(test_folders[0])
        skipped += others
        _check_test(test_folders[0], test, train_folder, names)
        found = (
            f"{_count(train)} images in {_shown(train_folder)}; tested on {_count(test)} in {_shown(test_folders[0])}"
        )
        found += "".join(f"; {_shown(unused)} is not used" for unused in test_folders[1:])
    else:
        test = {name: images[: max(1, len(images) // 5)] for name, images in train.items()}
        train = {name: images[len(test[name]) :] for name, images in train.items()}
        found = (
            f"{_count(train)} images in {_shown(train_folder)}; tested on {_count(test)} others, a fifth of each class"
        )

    listed = [one_line(name) for name in names[:_LISTED_NAMES]] + ["..."] * (len(names) > _LISTED_NAMES)
    print(f"{len(names)} classes ({', '.join(listed)}): trained on {found}", file=sys.stderr)
    if skipped:
        print(
            f"skipped {len(skipped)} files that are not named as images, such as {_shown(skipped[0])}", file=sys.stderr
        )
    return _Source(train, names, preprocessing), _Source(test, names, preprocessing), names


def labelled_images(directory: str | os.PathLike, info: DatasetInfo) -> Sequence[dict[str, Any]]:
    """The images in a folder's subfolders, which are named as classes of a data set.

    Args:
        directory: the folder. It need not have all the classes.
        info: of the data set.

    Returns:
        Random access to examples as those of `data_sources`.

    Raises:
        InputError: the folder cannot be read, has no images, or a subfolder that is named as no class.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise InputError(f"there is no folder {_shown(directory)}")
    images, _ = _find_classes(directory)
    for name in images:
        if name not in info.class_names:
            known = ", ".join(map(one_line, info.class_names[:_LISTED_NAMES]))
            raise InputError(f"{_shown(directory / name)} is named as no class of the network, such as {known}")
    if not any(images.values()):
        raise InputError(f"{_shown(directory)} has no images in subfolders that are named as classes")
    return _Source(images, info.class_names, info.preprocessing)


class _Source:
    """Random access to the images of all classes."""

    def __init__(self, images: _Images, names: Sequence[str], preprocessing: Preprocessing) -> None:
        ordered = sorted((*image, label) for label, name in enumerate(names) for image in images.get(name, ()))
        self._examples = [(path, label) for _, path, label in ordered]
        self._preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path, label = self._examples[index]
        try:
            image, _ = read_image(path, self._preprocessing)
        except InputError as error:
            raise RunError(f"{one_line(error)}: put back an undamaged copy, or remove the file") from error
        return {"image": image, "label": label}


def _split(directory: str | os.PathLike | None) -> tuple[Path, list[Path]]:
    """The folder whose subfolders are the classes, and those like it for tests, of which the first is to be used."""
    if directory is None:
        raise InputError("data_dir is missing: name a folder that has a subfolder of images for each class")
    try:
        directory = Path(directory).expanduser()
    except RuntimeError as error:
        raise InputError(f"data_dir is {_shown(directory)}: there is no such home directory") from error
    if not directory.is_dir():
        raise InputError(f"data_dir is {_shown(directory)}, but there is no such folder")
    train = directory / "train"
    tests = [folder for folder in (directory / "test", directory / "val") if folder.is_dir()]
    # A class may be called "train", after the vehicle.
    if train.is_dir() and (tests or any(entry.is_dir() for entry in _entries(train))):
        return train, tests
    return directory, []


def _find_classes(folder: Path) -> tuple[_Images, list[str]]:
    """The images of every subfolder, in their order, and all files that are not named as images."""
    images, others = {}, []
    for entry in _entries(folder):
        if entry.is_dir():
            paths, more = _find(entry.path, above=())
            within = len(os.path.join(folder, ""))
            images[entry.name] = sorted((hashlib.sha256(os.fsencode(path[within:])).digest(), path) for path in paths)
            others += more
        else:
            others.append(entry.path)
    return images, others


def _find(folder: str, above: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The images in a folder and the folders within it, and the other files; `above` are the folders that it is in."""
    real = os.path.realpath(folder)
    if real in above:
        raise InputError(f"{_shown(folder)} is a link to a folder that it is in itself: remove the link")
    images, others = [], []
    for entry in _entries(folder):
        if entry.is_dir():
            more_images, more_others = _find(entry.path, (*above, real))
            images += more_images
            others += more_others
        elif entry.is_file() and entry.name.lower().endswith(SUFFIXES):
            images.append(entry.path)
        else:
            others.append(entry.path)
    return images, others


def _entries(folder: str | os.PathLike) -> list[os.DirEntry]:
    """What is in a folder, sorted by name, but for what is hidden."""
    try:
        with os.scandir(os.fspath(folder)) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"cannot read the folder {_shown(folder)}: {error.strerror}") from error


def _check_test(folder: Path, images: _Images, train_folder: Path, names: Iterable[str]) -> None:
    """Raise InputError unless there are images to test on, all of classes that are trained on."""
    for name in images:
        if name not in names:
            raise InputError(
                f"{_shown(folder / name)} is of no class in {_shown(train_folder)}: rename it, or move it away"
            )
    if not any(images.values()):
        raise InputError(
            f"{_shown(folder)} has no images in subfolders named as the classes are: put some there, or move it away "
            "to have a fifth of each class held back"
        )


def _count(images: _Images) -> int:
    return sum(map(len, images.values()))


def _shown(path: str | os.PathLike) -> str:
    return one_line(os.fspath(path))
