"""Official archives, downloaded and verified."""

import sys
from pathlib import Path

import pooch
import requests

from coda_jax.errors import InputError, one_line


def fetch_archive(url: str, sha256: str, downloads: Path, title: str, size: str) -> Path:
    """The archive at `url`, in the existing directory `downloads`; it is downloaded unless it is there undamaged.

    Messages call the data set by its `title`, and say the archive's `size`, such as "170 MB". Raises InputError where
    it cannot be downloaded, or where what comes has another hash.
    """
    for leftover in downloads.glob("tmp*"):  # Of a download that was killed.
        leftover.unlink()
    archive = downloads / url.rpartition("/")[2]
    if archive.exists() and pooch.file_hash(str(archive)) == sha256:
        return archive
    print(f"Downloading {title} ({size}) from {url} to {archive}", file=sys.stderr)
    pooch.get_logger().setLevel("WARNING")  # It would say the same again.
    try:
        pooch.retrieve(url, sha256, archive.name, downloads, progressbar=sys.stderr.isatty())
    except (requests.RequestException, ValueError) as error:  # The latter is pooch's for another hash.
        raise InputError(
            f"cannot download {url} ({one_line(error)}): try again, place the archive by hand at {archive}, or give a "
            f"data_dir that holds {title}"
        ) from error
    return archive
