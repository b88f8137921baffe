"""Files that are replaced as a whole or not at all."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coda_jax.errors import InputError


def as_json(content: Any) -> bytes:
    """The content of a JSON file, indented."""
    return (json.dumps(content, indent=2) + "\n").encode()


def replace_files(contents: Mapping[Path, bytes]) -> None:
    """Write files, or replace those that are there; their directories are made.

    All are written under other names before the first gets its own: a full disk, say, changes none of them. Files that
    cannot be written raise InputError.
    """
    replacements = {path.parent / f"{path.name}.new": path for path in contents}
    try:
        for replacement, path in replacements.items():
            if path.is_dir():
                raise InputError(f"cannot write to {path}: it is a directory")
            path.parent.mkdir(parents=True, exist_ok=True)
            replacement.write_bytes(contents[path])
        for replacement, path in replacements.items():
            replacement.replace(path)
    except OSError as error:
        raise InputError(f"cannot write to {path.parent}: {error.strerror}") from error
    finally:
        for replacement in replacements:
            if replacement.is_file():
                replacement.unlink()
