"""Images of one's own, in a folder with a subfolder for each class.

The folder is either split, into `train/CLASS` and `test/CLASS` or `val/CLASS`, or it has `CLASS` alone, and a fifth of
every class is held back to be tested on. Classes may have folders within their own. Hidden files and folders are passed
over, links are followed, and files that are not named as images are skipped. The order of the images, and which are
held back, follow from their paths in the folder alone: a new image leaves nearly all others where they are.
"""

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from coda_jax.data.description import DatasetInfo
from coda_jax.data.preprocessing import Preprocessing, read_image
from coda_jax.errors import InputError, RunError, one_line

SUFFIXES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""How the names of images end, in small or capital letters."""

_LISTED_NAMES = 10
_Images = dict[str, list[tuple[bytes, str]]]  # Of each class, in order: (the hash that gives the order, the path).


def class_names(directory: str | os.PathLike | None) -> tuple[str, ...]:
    """The sorted names of a folder's classes; raises InputError if it cannot be read or has fewer than two."""
    train, _ = _split(directory)
    names = tuple(entry.name for entry in _entries(train) if entry.is_dir())
    if len(names) < 2:
        found = f"only {one_line(names[0])} is there" if names else "there is none"
        needed = "a subfolder of images for each of two or more classes"
        raise InputError(f"{one_line(train)} must have {needed}, but {found}")
    return names


def data_sources(
    directory: str | os.PathLike | None, preprocessing: Preprocessing
) -> tuple[Sequence[dict[str, Any]], Sequence[dict[str, Any]], tuple[str, ...]]:
    """A folder's training examples, test examples and class names; images are read when they are asked for.

    What is tested on is `test` if it is there, otherwise `val`, otherwise a fifth of every class, as a line on standard
    error says; a second one counts the skipped files. Classes are mixed. It raises InputError as `class_names`, and for
    a class without images, one of a single image of which a fifth is to be held back, and test images of a new class.
    """
    names = class_names(directory)
    folder, test_folders = _split(directory)
    train, skipped = _find_images(folder)
    needed = 1 if test_folders else 2
    for name, images in train.items():
        if len(images) < needed:
            found = f"{one_line(folder / name)} has {len(images)} images"
            raise InputError(f"{found}, but needs {needed} at least: add images, or remove the folder")
    if test_folders:
        test_folder, *unused = test_folders
        test, others = _find_images(test_folder)
        skipped += others
        if unknown := [one_line(test_folder / name) for name in test if name not in names]:
            raise InputError(f"{unknown[0]} is of no class in {one_line(folder)}: rename it, or move it away")
        if not any(test.values()):
            remedy = "put some there, or move it away to have a fifth of each class held back"
            raise InputError(f"{one_line(test_folder)} has no images in subfolders named as the classes are: {remedy}")
        tested_on = f"in {one_line(test_folder)}" + "".join(f"; {one_line(other)} is not used" for other in unused)
    else:
        test = {name: images[: max(1, len(images) // 5)] for name, images in train.items()}
        train = {name: images[len(test[name]) :] for name, images in train.items()}
        tested_on = "others, a fifth of each class"
    sources = _Source(train, names, preprocessing), _Source(test, names, preprocessing)
    listed = [one_line(name) for name in names[:_LISTED_NAMES]] + ["..."] * (len(names) > _LISTED_NAMES)
    told = f"trained on {len(sources[0])} images in {one_line(folder)}; tested on {len(sources[1])} {tested_on}"
    print(f"{len(names)} classes ({', '.join(listed)}): {told}", file=sys.stderr)
    if skipped:
        some = one_line(skipped[0])
        print(f"skipped {len(skipped)} files that are not named as images, such as {some}", file=sys.stderr)
    return *sources, names


def labelled_images(directory: str | os.PathLike, info: DatasetInfo) -> Sequence[dict[str, Any]]:
    """Random access to the images in a folder's subfolders, which are named as classes of `info`; it need not have all.

    Raises InputError if the folder cannot be read, has no images, or has a subfolder that is named as no class.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise InputError(f"there is no folder {one_line(directory)}")
    images, _ = _find_images(directory)
    if unknown := [one_line(directory / name) for name in images if name not in info.class_names]:
        known = ", ".join(map(one_line, info.class_names[:_LISTED_NAMES]))
        raise InputError(f"{unknown[0]} is named as no class of the network, such as {known}")
    if not any(images.values()):
        raise InputError(f"{one_line(directory)} has no images in subfolders that are named as classes")
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
        raise InputError(f"data_dir is {one_line(directory)}: there is no such home directory") from error
    if not directory.is_dir():
        raise InputError(f"data_dir is {one_line(directory)}, but there is no such folder")
    train = directory / "train"
    tests = [folder for folder in (directory / "test", directory / "val") if folder.is_dir()]
    # A class may be called "train", after the vehicle.
    if train.is_dir() and (tests or any(entry.is_dir() for entry in _entries(train))):
        return train, tests
    return directory, []


def _find_images(folder: Path) -> tuple[_Images, list[str]]:
    """The images in every subfolder, and all files that are not named as images."""
    images: _Images = {entry.name: [] for entry in _entries(folder) if entry.is_dir()}
    others = []
    for file in _files(folder):
        path = file.path.removeprefix(os.path.join(folder, ""))
        name, *within = path.split(os.sep)
        if within and file.is_file() and file.name.lower().endswith(SUFFIXES):
            images[name].append((hashlib.sha256(os.fsencode(path)).digest(), file.path))
        else:
            others.append(file.path)
    return {name: sorted(of_class) for name, of_class in images.items()}, others


def _files(folder: str | os.PathLike, above: tuple[str, ...] = ()) -> Iterator[os.DirEntry]:
    """All that is no folder, in a folder and in those within it; `above` are the folders that it is in."""
    real = os.path.realpath(folder)
    if real in above:
        raise InputError(f"{one_line(folder)} is a link to a folder that it is in itself: remove the link")
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _files(entry.path, (*above, real))
        else:
            yield entry


def _entries(folder: str | os.PathLike) -> list[os.DirEntry]:
    """What is in a folder, sorted by name, but for what is hidden."""
    try:
        with os.scandir(os.fspath(folder)) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"cannot read the folder {one_line(folder)}: {error.strerror}") from error
