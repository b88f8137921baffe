"""What all command lines do: answer mistakes on standard error and with an exit status, and keep compiled programs."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import jax

from coda_jax.errors import InputError, RunError


@contextlib.contextmanager
def answer_mistakes(when_memory_is_full: str) -> Iterator[None]:
    """End the program with one line on a mistake or a disk error, and on full memory, with the argument as advice."""
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


def keep_compiled_programs() -> None:
    """Have JAX keep what it compiles in the user's cache directory, if it is writable and no other is configured."""
    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    try:
        directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coda_jax" / "compiled"
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # The latter where there is no home directory.
        return
    if os.access(directory, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(directory))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
