"""Mistakes on the command line, answered with one line on standard error and an exit status."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

import jax

from coda_jax.errors import InputError, RunError


@contextlib.contextmanager
def answer_mistakes(when_memory_is_full: str) -> Iterator[None]:
    """End the program with one line where the user, the disk or the memory is the reason.

    `when_memory_is_full` says what the user can do then.
    """
    try:
        yield
    except (InputError, ModuleNotFoundError) as error:  # The latter names a library that is not installed.
        refuse(error)
    except RunError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(error.status)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # Of a reader, such as head, that has seen enough.
        sys.stderr.close()
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:  # A full disk, or a file that cannot be written.
        if error.strerror is None:
            raise
        refuse(f"{error.filename or 'a file'}: {error.strerror}")
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        refuse(f"the memory is full: {when_memory_is_full}")


def refuse(error: Exception | str) -> NoReturn:
    """End the program with the error's text on one line, and exit status 1."""
    sys.exit(f"error: {' '.join(str(error).split())}")
