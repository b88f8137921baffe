"""Measure the accuracy of a trained network.

It is measured on the test images of the data that the network was trained on, or on a folder of images of one's own,
which has a subfolder for each class.

For example:
  coda-jax evaluate runs/cifar10-xs
  coda-jax evaluate runs/cifar10-xs --images=my-photographs
  coda-jax evaluate digits        a network that comes with coda_jax
"""

import argparse
import json
from contextlib import closing
from pathlib import Path

import numpy as np

from coda_jax.data.description import DatasetInfo
from coda_jax.data.image_folder import labelled_images
from coda_jax.errors import InputError, one_line
from coda_jax.interop.pretrained import is_published_elsewhere, load_explainable, trained_directory
from coda_jax.networks.config_file import load_config
from coda_jax.training.evaluation import classify
from coda_jax.training.losses import binary_cross_entropy
from coda_jax.training.progress import Progress
from coda_jax.training.run_directory import load_dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("trained", metavar="RUN", type=Path, help="the directory or name of the trained network")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--data", metavar="DIR", help="where its data is, if not where it was; or as --images")
    where.add_argument("--images", metavar="DIR", type=Path, help="test on these: DIR/CLASS/*.jpg and so on")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(options: argparse.Namespace) -> None:
    """Print the accuracy of each class and of all."""
    directory = trained_directory(options.trained)
    model, variables, info = load_explainable(directory)
    dataset = None if is_published_elsewhere(directory) else load_config(directory)[0].get("dataset")
    images = options.images
    # Of the images in such folders, "image_folder" itself says which are to be tested on.
    if options.data is not None and dataset != "image_folder" and _has_folders_of_classes(options.data, info):
        images = options.data
    if images is not None:
        test = labelled_images(images, info)
    elif dataset is None:
        raise InputError(f"{options.trained} says nothing of its data: name a folder of images, --images=DIR")
    else:
        test = load_dataset(directory, options.data).test
    with closing(Progress(len(test))) as progress:
        logits, labels = classify(model, variables, test, progress.advance)
    right = logits.argmax(axis=-1) == labels
    loss = float(np.mean(np.asarray(binary_cross_entropy(logits, labels))))
    classes = [
        {"name": name, "accuracy": float(right[labels == label].mean()), "images": int(np.sum(labels == label))}
        for label, name in enumerate(info.class_names)
        if (labels == label).any()
    ]
    everything = {"accuracy": float(right.mean()), "images": len(test), "loss": loss}
    if options.json:
        print(json.dumps({"network": str(options.trained), **everything, "classes": classes}, indent=2))
        return
    width = max(len(one_line(name)) for name in info.class_names)
    for entry in classes:
        print(f"{one_line(entry['name']):{width}}  {entry['accuracy']:7.2%} of {entry['images']} images")
    print(f"{'all':{width}}  {everything['accuracy']:7.2%} of {len(test)} images, loss {loss:.4f}")


def _has_folders_of_classes(directory: str, info: DatasetInfo) -> bool:
    return any(path.name in info.class_names and path.is_dir() for path in Path(directory).glob("*"))
