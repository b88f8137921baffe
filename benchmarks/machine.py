"""What measurements were made with."""

import importlib.metadata
import os
import platform
from pathlib import Path

import coda_jax


def describe() -> dict[str, str | int | None]:
    """The processor, its cores and memory, the C library's allocator, and the versions of the libraries."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _line_of("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": cores,
        "memory": _line_of("/proc/meminfo", "MemTotal"),
        "system": platform.system(),
        "allocator": " ".join(platform.libc_ver()).strip() or None,
        "preloaded": os.environ.get("LD_PRELOAD"),
        "python": platform.python_version(),
        "coda_jax": coda_jax.__version__,
        **{name: _version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy", "torch")},
    }


def has_huge_page_tunable() -> bool:
    """Whether GLIBC_TUNABLES=glibc.malloc.hugetlb=1 makes the C library's allocator ask for huge pages."""
    library, version = platform.libc_ver()
    return library == "glibc" and tuple(map(int, version.split("."))) >= (2, 35)


def _line_of(file: str, name: str) -> str | None:
    """The value of the first "name: value" in the file; None where there is none."""
    if Path(file).exists():
        for line in Path(file).read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
