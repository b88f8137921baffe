"""Trained networks by their directory or name."""

import os
from pathlib import Path

from coda_jax.errors import InputError
from coda_jax.pretrained import Pretrained, from_pretrained, pretrained_directory
from coda_jax.training.run_directory import load_dataset_info, load_run


def trained_directory(trained: Path) -> Path:
    """The directory that was named, or that of the network of this name that comes with coda_jax.

    A directory that holds a network goes before a name.

    Raises:
        InputError: a single word that is neither.
    """
    if len(trained.parts) != 1 or os.path.lexists(trained / "config.json"):
        return trained
    try:
        return pretrained_directory(trained.name)
    except InputError as error:
        raise InputError(f"there is no run in {trained}, and {error}") from error


def load_trained(directory: Path) -> Pretrained:
    """The network of a run, or one that `save_pretrained` wrote, in a directory from `trained_directory`.

    Raises:
        InputError: there is none, or what is there is damaged.
    """
    if (directory / "model.safetensors").exists():
        return from_pretrained(directory)
    return Pretrained(*load_run(directory), load_dataset_info(directory))
