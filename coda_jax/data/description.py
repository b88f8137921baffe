"""What is to be known of a data set where its images are not at hand, and its form in JSON files."""

from typing import Any, NamedTuple

from coda_jax.errors import InputError
from coda_jax.errors.checks import check_whole


class Preprocessing(NamedTuple):
    """The images of a data set, squares of `size`×`size` pixels; `grey` where their three channels are equal.

    An image's shorter side is resized to `shorter_side` pixels, at least `size`, before its centre is cropped.
    """

    size: int
    shorter_side: int
    grey: bool = False


class DatasetInfo(NamedTuple):
    """The names of a data set's labels, in their order, and how any other image becomes one of its kind."""

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
