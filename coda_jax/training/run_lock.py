"""A lock on the directory of a run, so that two runs never write into one."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import jax
import numpy as np
from filelock import FileLock, Timeout
from jax.experimental import multihost_utils

from coda_jax.errors import InputError, one_line


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Hold the directory of a run, so that no other run can use it meanwhile.

    The directory is made if need be, and removed at the end if nothing was written into it then. The operating system
    lets go of the lock when the process ends, even where it is killed. All processes of a run call this; the first one
    holds the lock for all. All raise InputError if another run holds it, or if it cannot be made or written.
    """
    path, made, refusal = workdir / "run.lock", False, None
    lock = FileLock(path, blocking=False)
    if jax.process_index() == 0:
        try:
            made = not workdir.exists()
            workdir.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            started = datetime.now().astimezone().isoformat(" ", "seconds")
            path.write_text(f"process {os.getpid()} on {socket.gethostname()} since {started}")
        except Timeout:
            refusal = f"{workdir} is in use by {_holder(path)}: wait for its end, or use another --workdir"
        except OSError as error:
            refusal = f"cannot write to {workdir}: {error.strerror or error}"
    if jax.process_count() > 1 and multihost_utils.broadcast_one_to_all(np.int32(refusal is not None)):
        refusal = refusal or f"process 0 cannot use {workdir}: it says why"
    try:
        if refusal:
            raise InputError(refusal)
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):
                path.unlink()  # While it is held: filelock takes no file for locked that is gone from its place.
            lock.release()
        if made:
            with suppress(OSError):  # It is not empty.
                workdir.rmdir()


def _holder(path: Path) -> str:
    """Who holds the lock, as far as the file says."""
    try:
        return one_line(path.read_text()) or "another run"  # It is empty until the holder has written it.
    except (OSError, ValueError):
        return "another run"
