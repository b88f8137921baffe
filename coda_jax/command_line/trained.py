"""Trained networks by their directory."""

from pathlib import Path

from coda_jax.pretrained import Pretrained, from_pretrained
from coda_jax.training.run_directory import load_dataset_info, load_run


def load_trained(directory: Path) -> Pretrained:
    """The network of a run, or one that `save_pretrained` wrote.

    Raises:
        InputError: there is none, or what is there is damaged.
    """
    if (directory / "model.safetensors").exists():
        return from_pretrained(directory)
    return Pretrained(*load_run(directory), load_dataset_info(directory))
