"""Libraries that only some parts of coda_jax need, and that extras install."""

import importlib.util

from coda_jax.errors import InputError


def need(extra: str, *modules: str) -> None:
    """Raise InputError, with the command that installs the extra, unless all of the modules are installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise InputError(f"coda_jax needs {module} for this: pip install 'coda_jax[{extra}]'")
