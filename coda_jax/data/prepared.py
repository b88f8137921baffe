"""Data sets in directories of TFDS's, prepared there once and read without TensorFlow."""

import contextlib
import fcntl
import io
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from coda_jax.errors import InputError, one_line


def root_of(data_dir: str | None, title: str, entry: str) -> Path:
    """The directory of TFDS data sets.

    Args:
        data_dir: an existing one, or None for TFDS's default (the environment variable TFDS_DATA_DIR, else
            `~/tensorflow_datasets`), which need not exist.
        title: of the data set that is looked for there, for the message.
        entry: where that is in the directory, such as "cifar10/3.0.2".

    Raises:
        InputError: there is no such directory.
    """
    root = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
    if data_dir and not root.is_dir():
        raise InputError(
            f"{root} is not a directory: create it to have {title} prepared there, or give a data_dir that holds "
            f"{entry}"
        )
    return root


def prepare_once(root: Path, entry: str, title: str, begin: Callable[[], Callable[[], None]]) -> None:
    """Prepare a data set in `root / entry` unless it is there.

    Runs that are started together wait for the first one; an interrupted one leaves nothing that is taken for whole.

    Args:
        root: the directory of TFDS data sets.
        entry: name and version of the data set.
        title: of the data set, for messages.
        begin: fetches what is needed, and returns the function that then writes the data set, such as
            `download_and_prepare` of a builder of TFDS's. That writes under another name, which TFDS's
            `incomplete_dir` has, and renames.

    Raises:
        InputError: the directory cannot be written, or what `begin` and its result raise.
    """
    prepared = root / entry
    if prepared.exists():
        return
    try:
        if prepared.parent.exists() and not prepared.parent.is_dir():
            raise NotADirectoryError(f"{prepared.parent} is not a directory")
        downloads = root / "downloads" / prepared.parent.name
        downloads.mkdir(parents=True, exist_ok=True)
        # Runs started together would delete each other's unfinished files; a killed run's lock is released by the
        # system.
        with open(downloads / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if prepared.exists():
                return
            for leftover in prepared.parent.glob(f"incomplete.*_{prepared.name}"):
                shutil.rmtree(leftover)
            write = begin()
            print(f"Preparing {title} in {prepared}", file=sys.stderr)
            if not sys.stderr.isatty():
                tfds.disable_progress_bar()
            # TFDS announces a download of unknown size on stdout, which is the caller's.
            with contextlib.redirect_stdout(io.StringIO()):
                write()
    except (OSError, RuntimeError) as error:  # ArrayRecord's for a full disk is the latter.
        raise InputError(
            f"cannot prepare {title} in {root} ({one_line(error)}): free space there and make it writable, or give "
            "another data_dir"
        ) from error


def open_sources(
    prepared: Path, title: str, splits: Sequence[str], decoders: dict[str, Any] | None = None
) -> tuple[list[Sequence], tuple[str, ...]]:
    """Open a prepared data set.

    Args:
        prepared: its directory.
        title: of the data set, for messages.
        splits: to be opened, such as "train".
        decoders: for features that are not to be decoded, as TFDS has them.

    Returns:
        (random access to the examples of each split, the names of the labels).

    Raises:
        InputError: the data set is damaged, or not stored as ArrayRecord.
    """
    try:
        builder = tfds.builder_from_directory(prepared)
        formats = {file_format.value for file_format in builder.info.available_file_formats()}
        if "array_record" in formats:
            sources = builder.as_data_source(list(splits), file_format="array_record", decoders=decoders)
            # TFDS opens a file at the first access to it; a damaged one is to be found now.
            for source in sources:
                _ = source[0], source[len(source) - 1]
            return sources, tuple(builder.info.features["label"].names)
    except Exception as error:
        raise InputError(
            f"{prepared} is not a readable {title} data set ({one_line(error)}): delete it to have {title} prepared "
            "anew, or give another data_dir"
        ) from error
    raise InputError(
        f"{prepared} is stored as {', '.join(formats)}, not as array_record: move it away to have {title} prepared "
        "anew, or give another data_dir"
    )
