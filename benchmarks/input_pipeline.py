"""Measure how many training images a second the input pipeline prepares on one processor core.

python -m benchmarks.input_pipeline [--data_dir=DIR] [--seconds=10] [--out=runs/benchmarks]

Batches are those of `coda_jax.data.train_batches`: shuffled, read, decoded, mirrored, cropped, as float32. CIFAR-10 and
Tiny-ImageNet are read from a directory of prepared TFDS data sets, and left out where they are not there. The JPEGs are
made here and kept in memory: 64 cuttings of scikit-learn's two sample photographs ("china" and "flower", 427×640
pixels), of 375×500 pixels for images of 240, about the size of ImageNet's, and of 64×64 for images of 64, as
Tiny-ImageNet's. They are decoded by OpenCV, and the larger ones resized; but in the case of ImageNet as
`coda_jax.data.imagenet` does it, with RandAugment. Prints a table: images a second of one core, and of two worker
processes on two cores where there are two. Writes DIR/input_pipeline.json. Takes about ten minutes. Needs Linux.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sklearn.datasets import load_sample_images

from benchmarks import machine
from benchmarks.timing import print_table
from coda_jax import data
from coda_jax.data import imagenet
from coda_jax.data.preprocessing import resize_shorter_side

BATCH_SIZE = 64
ROUNDS = 5


IMAGENET = data.Preprocessing(size=240, shorter_side=256)


class Photographs:
    """JPEGs that are decoded and resized when they are read, as a data set of ImageNet's kind would be."""

    def __init__(self, height: int, width: int, size: int) -> None:
        """Cut photographs of height × width pixels, which are given as images of size × size."""
        rng = np.random.default_rng(0)
        self._size = size
        self._files = []
        for photograph in 32 * load_sample_images().images:
            top, left = rng.integers(0, (photograph.shape[0] - height + 1, photograph.shape[1] - width + 1))
            cutting = photograph[top : top + height, left : left + width, ::-1]  # OpenCV's images are BGR.
            _, file = cv2.imencode(".jpg", cutting, [cv2.IMWRITE_JPEG_QUALITY, 95])
            self._files.append(file)
        self.mean_bytes = statistics.mean(map(len, self._files))

    def as_in_imagenet(self) -> Sequence[dict[str, Any]]:
        """The same, decoded and resized as ImageNet's training images are."""
        examples = [{"image": file.tobytes(), "label": index % 2} for index, file in enumerate(self._files)]
        return imagenet.Images(examples, IMAGENET, resize_shorter_side)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """{"image": uint8 [size, size, 3], "label": int}: the middle square, its side resized."""
        image = cv2.imdecode(self._files[index], cv2.IMREAD_COLOR)
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        image = image[top : top + side, left : left + side]
        if side != self._size:
            image = cv2.resize(image, (self._size, self._size), interpolation=cv2.INTER_AREA)
        return {"image": image[..., ::-1], "label": index % 2}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write.

    Args:
        arguments: of the command line; None for those that the program was started with.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.input_pipeline", description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", metavar="DIR", help="of prepared TFDS data sets")
    parser.add_argument("--seconds", type=float, default=10, help="of each of the five measurements of a number; 10")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), metavar="DIR", help="runs/benchmarks")
    options = parser.parse_args(arguments)
    if not hasattr(os, "sched_setaffinity"):
        sys.exit("error: only Linux lets a program choose its cores")
    options.out.mkdir(parents=True, exist_ok=True)

    large, small = Photographs(375, 500, size=240), Photographs(64, 64, size=64)
    # The name, the source, the size, and the augmentation; images are padded by an eighth of their side.
    cases = [
        (
            f"ImageNet: JPEG of 375×500 in {large.mean_bytes / 1000:.0f} kB, cropped to 240 pixels, RandAugment",
            240,
            large.as_in_imagenet(),
            {"crop_padding": 0, "randaugment": 10},
        ),
        (f"JPEG, 240 pixels, of 375×500 in {large.mean_bytes / 1000:.0f} kB", 240, large, {"crop_padding": 30}),
        (f"JPEG, 64 pixels, in {small.mean_bytes / 1000:.1f} kB", 64, small, {"crop_padding": 8}),
    ]
    for name, title, image_size in (("tiny_imagenet", "Tiny-ImageNet, JPEG", 64), ("cifar10", "CIFAR-10, PNG", 32)):
        if options.data_dir and (Path(options.data_dir) / name).is_dir():
            source = data.load(name, options.data_dir).train
            cases.append((f"{title}, {image_size} pixels", image_size, source, {"crop_padding": image_size // 8}))

    cores = sorted(os.sched_getaffinity(0))
    rows = []
    for name, image_size, source, augmentation in cases:
        os.sched_setaffinity(0, cores[:1])  # Threads and processes that start from here on share this core.
        of_one_core = _images_per_second(source, image_size, augmentation, 0, options.seconds)
        os.sched_setaffinity(0, cores)
        of_two_cores = None
        if len(cores) == 2:
            of_two_cores = _images_per_second(source, image_size, augmentation, 2, options.seconds)
        rows.append({"name": name, "image_size": image_size, "one_core": of_one_core, "two_workers": of_two_cores})
    print_table(
        "Images a second",
        ["", "one core", "two workers on two cores"],
        [[row["name"], row["one_core"], row["two_workers"]] for row in rows],
    )
    results = {"machine": machine.describe(), "batch_size": BATCH_SIZE, "images_per_second": rows}
    (options.out / "input_pipeline.json").write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    print(f"\nwrote {options.out / 'input_pipeline.json'}")


def _images_per_second(
    source: Sequence[dict[str, Any]], size: int, augmentation: dict[str, int], num_workers: int, seconds: float
) -> float:
    """The median of `ROUNDS` measurements of so many seconds, after the batches that were prepared in advance."""
    batches = data.train_batches(
        source, batch_size=BATCH_SIZE, seed=0, flip=True, size=size, num_workers=num_workers, **augmentation
    )
    _count_images(batches, seconds)
    return statistics.median(_count_images(batches, seconds) for _ in range(ROUNDS))


def _count_images(batches: Any, seconds: float) -> float:
    """Images a second, from one batch to another."""
    start = time.perf_counter()
    count = 0
    while (elapsed := time.perf_counter() - start) < seconds or not count:
        count += len(next(batches)["label"])
    return count / elapsed


if __name__ == "__main__":
    main()
