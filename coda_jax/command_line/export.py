"""Write a trained network for other programs.

Formats:
  jax          RUN/network.jax: one file that gives logits and contribution maps wherever JAX is, without this library;
               it stays loadable for six months of JAX's releases
  safetensors  RUN/pretrained: a directory to keep or to publish, as on the Hugging Face Hub
  pytorch      RUN/network.pkl: the parameters for the authors' code; needs PyTorch

For example:
  coda-jax export runs/digits
  coda-jax export runs/digits --format=safetensors --out=digits
"""

import argparse
from pathlib import Path

from coda_jax.errors import InputError
from coda_jax.interop.export import export
from coda_jax.interop.pretrained import is_published_elsewhere, load_explainable, save_pretrained, trained_directory
from coda_jax.interop.torch import save_checkpoint

_MOST_CLASSES = 200  # The maps of ImageNet's 1,000 would take a layer of 64 channels at 112×112 pixels 3 GB.
_NAMES = {"jax": "network.jax", "safetensors": "pretrained", "pytorch": "network.pkl"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("trained", metavar="RUN", type=Path, help="the directory or name of the trained network")
    parser.add_argument("--format", choices=tuple(_NAMES), default="jax", help="%(default)s otherwise")
    parser.add_argument("--out", metavar="PATH", type=Path, help="where to write it, if not in RUN")


def run(options: argparse.Namespace) -> None:
    """Write the file or directory, and print its name."""
    directory = trained_directory(options.trained)
    if options.out is None and (directory != options.trained or is_published_elsewhere(directory)):
        raise InputError(f"{options.trained} is a network's name: say where to write it, --out=PATH")
    model, variables, info = load_explainable(directory)
    path = options.out or directory / _NAMES[options.format]
    if options.format == "jax":
        classes = model.channels[-1]
        if classes > _MOST_CLASSES:
            raise InputError(
                f"{options.trained} has {classes} classes, but a function that gives the maps of all at once can have "
                f"at most {_MOST_CLASSES}: use --format=safetensors, and coda_jax.contributions for some of them"
            )
        export(model, variables, path, image_size=info.preprocessing.size, info=info)
    elif options.format == "safetensors":
        save_pretrained(path, model, variables, info)
    else:
        save_checkpoint(path, model, variables)
    print(path)
