"""Measure the accuracy of a trained network.

It is measured on the test images of the data that a run was trained on, or on a folder of images of one's own, which
has a subfolder for each class.

For example:
  coda-jax evaluate runs/cifar10-xs
  coda-jax evaluate runs/cifar10-xs --images=my-photographs
"""

import argparse
from contextlib import closing
from pathlib import Path

import numpy as np

from coda_jax.config_file import load_config
from coda_jax.data.image_folder import labelled_images
from coda_jax.errors import InputError, one_line
from coda_jax.interop.pretrained import is_published_elsewhere, load_explainable, trained_directory
from coda_jax.training.evaluation import classify
from coda_jax.training.losses import binary_cross_entropy
from coda_jax.training.progress import Progress
from coda_jax.training.run_directory import load_dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("trained", metavar="RUN", type=Path, help="the directory or name of the trained network")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--data", metavar="DIR", help="where the run's data is now, if not where it was")
    where.add_argument("--images", metavar="DIR", type=Path, help="test on these: DIR/CLASS/*.jpg and so on")


def run(options: argparse.Namespace) -> None:
    """Print the accuracy of each class and of all."""
    directory = trained_directory(options.trained)
    model, variables, info = load_explainable(directory)
    if options.images is not None:
        test = labelled_images(options.images, info)
    elif is_published_elsewhere(directory) or load_config(directory)[0].get("dataset") is None:
        raise InputError(f"{options.trained} says nothing of its data: name a folder of images, --images=DIR")
    else:
        test = load_dataset(directory, options.data).test
    names = [one_line(name) for name in info.class_names]
    with closing(Progress(len(test))) as progress:
        logits, labels = classify(model, variables, test, progress.advance)
    right = logits.argmax(axis=-1) == labels
    width = max(map(len, names))
    for label, name in enumerate(names):
        if count := np.sum(labels == label):
            print(f"{name:{width}}  {np.mean(right[labels == label]):7.2%} of {count} images")
    loss = np.mean(np.asarray(binary_cross_entropy(logits, labels)))
    print(f"{'all':{width}}  {np.mean(right):7.2%} of {len(test)} images, loss {loss:.4f}")
