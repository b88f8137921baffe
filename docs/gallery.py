"""The pictures of docs/gallery.md: test images of each published network with the maps of two classes.

    python docs/gallery.py NETWORK... [--data_dir=DIR]

In an order that is drawn with seed 0, the first twelve test images that the network gets right, and the first twelve
that it gets wrong. Pictures are left in docs/images.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import coda_jax
from coda_jax import data
from coda_jax.interop.pretrained import Pretrained
from coda_jax.plotting.maps import contribution_sheet

OF_EACH_KIND = 12
CHUNK = 64
OUT = Path(__file__).parent / "images"
DATASETS = {"cifar10-xs": "cifar10", "cifar10-two-hours": "cifar10"}
"""The data set of each network that does not have its name."""


def chosen(network: Pretrained, test: Sequence[dict]) -> tuple[list[dict], list[dict]]:
    """The test images that are right and those that are wrong, by the rule above."""
    right, wrong = [], []
    order = np.random.default_rng(0).permutation(len(test))
    for start in range(0, len(test), CHUNK):
        examples = [test[int(index)] for index in order[start : start + CHUNK]]
        predicted = coda_jax.explain(network, [example["image"] for example in examples]).targets[:, 0]
        for example, target in zip(examples, predicted, strict=True):
            (right if example["label"] == target else wrong).append(example)
        if min(len(right), len(wrong)) >= OF_EACH_KIND:
            break
    return right[:OF_EACH_KIND], wrong[:OF_EACH_KIND]


def draw(name: str, data_dir: str | None) -> None:
    """Draw both kinds of one network: the predicted class, and beside it the true class or else the runner-up."""
    network = coda_jax.load(name)
    test = data.load(DATASETS.get(name, name), data_dir).test
    for kind, examples in zip(("right", "wrong"), chosen(network, test), strict=True):
        labels = np.array([example["label"] for example in examples])
        explained = coda_jax.explain(network, [example["image"] for example in examples], top=2)
        if kind == "wrong":
            explained = explained.for_classes(np.stack([explained.targets[:, 0], labels], axis=1))
        contribution_sheet(
            OUT / f"gallery-{name}-{kind}.jpg",
            images=explained.images / np.float32(255),
            maps=explained.contribution_maps,
            targets=explained.targets,
            probabilities=np.take_along_axis(explained.probabilities, explained.targets, axis=1),
            labels=labels,
            class_names=explained.class_names,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--data_dir")
    arguments = parser.parse_args()
    for name in arguments.networks:
        draw(name, arguments.data_dir)
