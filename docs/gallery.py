"""The pictures of docs/gallery.md: test images of each published network with the maps of two classes.

    python docs/gallery.py NETWORK... [--data_dir=DIR]

In an order that is drawn with seed 0, the first twelve test images that the network gets right, and the first twelve
that it gets wrong. For the last network, a film of a window that moves from the first of the right ones to the next of
another class. Pictures are left in docs/images.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import coda_jax
from coda_jax.data.video import write_video
from coda_jax.interop.pretrained import Pretrained, pretrained_directory
from coda_jax.plotting.maps import called, contribution_scale, contribution_sheet, explained_frame
from coda_jax.training.run_directory import load_dataset

OF_EACH_KIND = 12
FRAMES, FRAMES_A_SECOND = 16, 6
CHUNK = 64
OUT = Path(__file__).parent / "images"


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


def draw(name: str, data_dir: str | None) -> list[dict]:
    """Draw both kinds of one network, the predicted class and beside it the true class or else the runner-up.

    Returns the right ones.
    """
    network = coda_jax.load(name)
    right, wrong = chosen(network, load_dataset(pretrained_directory(name), data_dir).test)
    for kind, examples in (("right", right), ("wrong", wrong)):
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
    return right


def film(name: str, examples: Sequence[dict]) -> None:
    """Explain the classes of two images in a window that moves from one to the other."""
    first = examples[0]
    other = next(example for example in examples if example["label"] != first["label"])
    strip, side = np.concatenate([first["image"], other["image"]], axis=1), len(first["image"])
    frames = [strip[:, left : left + side] for left in np.linspace(0, side, FRAMES).round().astype(int)]
    classes = [first["label"], other["label"]]
    explained = coda_jax.explain(name, frames, [classes] * FRAMES)
    names = [explained.class_names[target] for target in classes]
    scale = contribution_scale(explained.contribution_maps)

    def drawn() -> Iterator[np.ndarray]:
        of_frames = explained.images, explained.contribution_maps, explained.probabilities[:, classes]
        for image, maps, probabilities in zip(*of_frames, strict=True):
            captions = [f"{called(name)}: {p:.0%}" for name, p in zip(names, probabilities, strict=True)]
            yield explained_frame(image, maps, captions, scale, overlaid=True)

    write_video(OUT / "gallery-film.gif", drawn(), FRAMES_A_SECOND)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--data_dir")
    arguments = parser.parse_args()
    for name in arguments.networks:
        right = draw(name, arguments.data_dir)
    film(name, right)
