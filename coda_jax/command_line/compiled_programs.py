"""Where compiled programs are kept for later runs."""

import os
from pathlib import Path

import jax


def keep_compiled_programs() -> None:
    """Have JAX keep what it compiles for later runs, in the user's cache directory unless another is configured.

    Where that directory cannot be written, every run compiles anew.
    """
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
