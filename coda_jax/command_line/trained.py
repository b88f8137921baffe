"""Trained networks by their directory or name."""

import os
from pathlib import Path

from coda_jax.errors import InputError
from coda_jax.hybrid import HybridNet
from coda_jax.models import CoDANet
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
        InputError: there is none, what is there is damaged, or it is neither a CoDA-Net nor a hybrid.
    """
    if (directory / "model.safetensors").exists():
        return from_pretrained(directory)
    model, variables = load_run(directory)
    if not isinstance(model, CoDANet | HybridNet):
        raise InputError(
            f"{directory} is a run of a {type(model).__name__}: the commands of coda-jax are for CoDA-Nets and hybrids"
        )
    return Pretrained(model, variables, load_dataset_info(directory))
