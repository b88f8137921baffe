"""Data sets in directories of TFDS's: they are prepared there once, and read, without TensorFlow."""

import contextlib
import fcntl
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tqdm import tqdm

from coda_jax.errors import InputError, one_line

Contents = tuple[dict[str, Any], dict[str, Iterable[dict[str, Any]]]]
"""What a data set is made from: its features "image", "label" and others, as TFDS describes them, and the examples of
each split in the order in which they are stored."""

_EXAMPLES_PER_FILE = 10_000  # A gigabyte of ImageNet.


def root_of(data_dir: str | None, title: str, entry: str) -> Path:
    """The directory `data_dir`, or TFDS's default (the environment variable TFDS_DATA_DIR, or `~/tensorflow_datasets`).

    Raises InputError, which names the data set's `title` and its `entry`, if a `data_dir` does not exist.
    """
    root = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
    if data_dir and not root.is_dir():
        raise InputError(
            f"{root} is not a directory: create it to have {title} prepared there, or give a data_dir that holds "
            f"{entry}"
        )
    return root


@contextlib.contextmanager
def reading(archive: Path, remedy: str) -> Iterator[None]:
    """Make InputErrors, which name the archive and the remedy, of all that goes wrong while it is read."""
    try:
        yield
    except Exception as error:  # tarfile and zipfile raise many kinds for headers that make no sense.
        reason = error if isinstance(error, InputError) else f"cannot be read ({one_line(error)})"
        raise InputError(f"{archive} {reason}: {remedy}") from error


def prepare_once(root: Path, entry: str, title: str, begin: Callable[[], Contents]) -> None:
    """Prepare a data set in `root / entry`, from what `begin` fetches, unless it is there.

    `entry` is NAME/VERSION or NAME/CONFIGURATION/VERSION; `begin` finds a directory `root / "downloads" / NAME`.
    Runs that are started together wait for the first one; an interrupted one leaves nothing that is taken for whole.
    Raises InputError, in which the data set is called `title`, where the directory cannot be written.
    """
    prepared = root / entry
    if prepared.exists():
        return
    try:
        if prepared.parent.exists() and not prepared.parent.is_dir():
            raise NotADirectoryError(f"{prepared.parent} is not a directory")
        downloads = root / "downloads" / entry.split("/")[0]
        downloads.mkdir(parents=True, exist_ok=True)
        # Runs started together would delete each other's unfinished files; the system releases a killed run's lock.
        with open(downloads / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if prepared.exists():
                return
            for leftover in prepared.parent.glob(f"incomplete.*_{prepared.name}"):
                shutil.rmtree(leftover)
            contents = begin()
            print(f"Preparing {title} in {prepared}", file=sys.stderr)
            _write(contents, title, root, entry)
    except (OSError, RuntimeError) as error:  # ArrayRecord's for a full disk is the latter.
        raise InputError(
            f"cannot prepare {title} in {root} ({one_line(error)}): free space there and make it writable, or give "
            "another data_dir"
        ) from error


def _write(contents: Contents, title: str, root: Path, entry: str) -> None:
    """Write a data set under another name, and rename it to `root / entry`."""
    features, examples = contents
    name, *configuration, version = entry.split("/")
    with tfds.core.utils.incomplete_dir(root / entry) as incomplete:
        identity = tfds.core.dataset_info.DatasetIdentity(
            name=name,
            version=version,
            data_dir=incomplete,
            module_name=__name__,
            config_name=configuration[0] if configuration else None,
        )
        info = tfds.core.DatasetInfo(
            builder=identity,
            description=title,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )
        # TFDS's builders would sort what is larger than a gigabyte with TensorFlow.
        writer = tfds.core.SequentialWriter(info, _EXAMPLES_PER_FILE, file_format="array_record")
        writer.initialize_splits(list(examples))
        for split, of_split in examples.items():
            writer.add_examples({split: tqdm(of_split, desc=split, unit=" images", disable=None)})  # For terminals.
        writer.close_all()


def open_sources(
    prepared: Path, title: str, splits: tuple[str, str], decoders: dict[str, Any] | None = None
) -> tuple[Sequence, Sequence, tuple[str, ...]]:
    """Random access to the training and to the test examples of a prepared data set, and the names of its labels.

    `splits` are the names of the two parts; `decoders` says which features are not to be decoded, as TFDS has it.
    Raises InputError, in which the data set is called `title`, where it is damaged or not stored as ArrayRecord.
    """
    try:
        builder = tfds.builder_from_directory(prepared)
        formats = {file_format.value for file_format in builder.info.available_file_formats()}
        if "array_record" in formats:
            train, test = builder.as_data_source(list(splits), file_format="array_record", decoders=decoders)
            # TFDS opens a file at the first access to it; a damaged one is to be found now.
            for source in (train, test):
                _ = source[0], source[len(source) - 1]
            return train, test, tuple(builder.info.features["label"].names)
    except Exception as error:
        raise InputError(
            f"{prepared} is not a readable {title} data set ({one_line(error)}): delete it to have {title} prepared "
            "anew, or give another data_dir"
        ) from error
    raise InputError(
        f"{prepared} is stored as {', '.join(formats)}, not as array_record: move it away to have {title} prepared "
        "anew, or give another data_dir"
    )
