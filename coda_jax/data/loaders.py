"""Batches of a data set, read, augmented and prefetched by grain."""

from collections.abc import Iterator, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from coda_jax.data.augmentation import RandomFlipAndCrop
from coda_jax.data.randaugment import RandAugment

Batch = dict[str, np.ndarray]

# As good as endless; grain cannot share what it repeats for ever among many processes.
_EPOCHS = 2**31
# Grain's own 500 batches would be 22 GB of images of 240 pixels in batches of 64.
_READ_AHEAD = grain.ReadOptions(num_threads=16, prefetch_buffer_size=16)


def train_batches(
    source: Sequence[dict[str, Any]],
    *,
    batch_size: int,
    seed: int,
    flip: bool,
    crop_padding: int,
    size: int | None = None,
    randaugment: int = 0,
    start: int = 0,
    num_workers: int = 0,
    process: int = 0,
    processes: int = 1,
) -> Iterator[Batch]:
    """One process's share of endless shuffled and augmented batches; no other examples are read.

    Every epoch is a new permutation of all examples; where the batch size does not divide their number, a batch holds
    the end of one epoch and the start of the next. Batch `i` is a function of the seed and `i` alone, so that `start`
    is the whole position in the data, and the number of workers changes nothing.

    Args:
        source: random access to {"image": uint8 [H, W, C], "label": int}.
        batch_size: N, over all processes, of whose number P it is a multiple.
        seed: of the order and the augmentation.
        flip: whether to mirror half of the images.
        crop_padding: pixels by which images are padded before they are cropped.
        size: height and width to which images, which may be of any larger sizes, are cropped; None for those that all
            images have.
        randaugment: the magnitude of RandAugment's two operations, from 1 to 10; 0 for none.
        start: the number of batches to skip.
        num_workers: processes that prepare batches; 0 for threads of this one.
        process: which share, from 0 to P - 1; the shares of a batch follow one another in the order of the processes.
        processes: P.

    Yields:
        "image" float32 [N / P, H, W, C] in [0, 1] and "label" int32 [N / P].
    """
    examples = (
        grain.MapDataset.source(source)
        .seed(seed)
        .shuffle()
        .repeat(_EPOCHS)
        .random_map(RandomFlipAndCrop(flip, crop_padding, size))
    )
    if randaugment:
        examples = examples.random_map(RandAugment(randaugment))
    batches = (
        examples.map(_to_arrays)
        .batch(batch_size // processes)
        .slice(slice(start * processes + process, None, processes))
    )
    if not num_workers:
        return iter(batches.to_iter_dataset(_READ_AHEAD))
    # grain's workers read absl's flags, which nobody has parsed where the program is not an absl one.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    options = grain.multiprocessing.MultiprocessingOptions(num_workers=num_workers)
    return iter(batches.to_iter_dataset(_READ_AHEAD).mp_prefetch(options))


def test_batches(
    source: Sequence[dict[str, Any]], *, batch_size: int, process: int = 0, processes: int = 1
) -> Iterator[Batch]:
    """One process's share of batches of one size that hold every example once, in order.

    Args:
        source: random access to {"image": uint8 [H, W, C], "label": int}, all images of one size.
        batch_size: N, over all processes, of whose number P it is a multiple; the last batch is filled up with zeros of
            weight 0.
        process: which share, from 0 to P - 1; the shares of a batch follow one another in the order of the processes.
        processes: P; all get the same number of batches.

    Yields:
        "image" float32 [N / P, H, W, C] in [0, 1], "label" int32 [N / P] and "weight" float32 [N / P], 1 or 0.
    """
    share = batch_size // processes
    shape = source[0]["image"].shape

    def read(number: int) -> Batch:
        first = number * batch_size + process * share
        batch = {
            "image": np.zeros((share, *shape), np.float32),
            "label": np.zeros(share, np.int32),
            "weight": np.zeros(share, np.float32),
        }
        for row, index in enumerate(range(first, min(first + share, len(source)))):
            for key, value in {**_to_arrays(source[index]), "weight": 1}.items():
                batch[key][row] = value
        return batch

    return iter(grain.MapDataset.range(-(-len(source) // batch_size)).map(read).to_iter_dataset(_READ_AHEAD))


def _to_arrays(example: dict[str, Any]) -> dict[str, np.ndarray]:
    return {"image": example["image"].astype(np.float32) / 255, "label": np.int32(example["label"])}
