"""Data sets by name."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from coda_jax.errors import InputError


class Dataset(NamedTuple):
    """Training and test examples.

    Attributes:
        train, test: random access to {"image": uint8 [H, W, 3], "label": int}.
        class_names: the name of each label, in the labels' order.
    """

    train: Sequence[dict[str, Any]]
    test: Sequence[dict[str, Any]]
    class_names: tuple[str, ...]


def load(name: str, data_dir: str | None = None) -> Dataset:
    """Open a data set, after downloading and preparing it where that has not been done yet.

    Args:
        name: "cifar10", or "digits" (part of scikit-learn, nothing is downloaded).
        data_dir: the directory of prepared TFDS data sets; None for TFDS's default.

    Raises:
        InputError: an unknown name, or data that cannot be read or prepared.
    """
    if data_dir is not None and not isinstance(data_dir, str | os.PathLike):
        raise InputError(f"data_dir must be a path, not {data_dir!r}")
    if not isinstance(name, str):
        raise InputError(f"name must be that of a data set, not {name!r}")
    # Imported here because each needs libraries that the others do not.
    if name == "cifar10":
        from coda_jax.data import cifar10

        return Dataset(*cifar10.data_sources(data_dir))
    if name == "digits":
        from coda_jax.data import digits

        return Dataset(*digits.data_sources())
    raise InputError(f"there is no data set {name!r}: choose cifar10 or digits")
