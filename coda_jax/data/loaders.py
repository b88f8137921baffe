"""Batches of a data set, read, augmented and prefetched by grain.

Each of P processes gets N / P examples of every batch of N, its share; the shares are in the order of the processes.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from coda_jax.data.augmentation import RandomColour, RandomFlipAndCrop, RandomResizedCrop
from coda_jax.data.randaugment import RandAugment
from coda_jax.errors import InputError

Batch = dict[str, np.ndarray]
_EPOCHS = 2**31  # As good as endless; grain cannot share what it repeats for ever among many processes.
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
    crop_scale: float = 1.0,
    colour: float = 0.0,
    randaugment: int = 0,
    start: int = 0,
    num_workers: int = 0,
    process: int = 0,
    processes: int = 1,
) -> Iterator[Batch]:
    """One process's share of endless shuffled and augmented batches; no other examples are read.

    Yields "image" float32 [N / P, H, W, C] in [0, 1] and "label" int32 [N / P].
    Every epoch is a new permutation of all examples; where the batch size does not divide their number, a batch holds
    the end of one epoch and the start of the next. Batch `i` is a function of the seed and `i` alone, so that `start`
    is the whole position in the data, and the number of workers changes nothing.

    Args:
        source: random access to {"image": uint8 [H, W, C], "label": int}.
        batch_size: N, a multiple of P.
        seed: the seed of the order and of the augmentation.
        flip: whether to mirror half of the images.
        crop_padding: the pixels by which images are padded before they are cropped.
        size: the height and width of the crops from images of any larger sizes; None for images of one size.
        crop_scale: the least area of crops that are resized to `size`, as a share of the image's, below 1; 1 for crops
            that are not resized.
        colour: the strength of random changes of brightness, contrast and saturation, up to 1; 0 for none.
        randaugment: the magnitude of RandAugment's two operations, from 1 to 10; 0 for none.
        start: the number of batches to skip.
        num_workers: the number of processes that prepare batches; 0 for threads of this one.
        process: the number of the share, from 0 to P - 1.
        processes: P.
    """
    examples = grain.MapDataset.source(source).seed(seed).shuffle().repeat(_EPOCHS)
    if crop_scale < 1:
        if size is None:
            raise InputError("crops are resized to size, which is None: give the pixels, or crop_scale=1")
        examples = examples.random_map(RandomResizedCrop(crop_scale, size))
    examples = examples.random_map(RandomFlipAndCrop(flip, crop_padding, size))
    if colour:
        examples = examples.random_map(RandomColour(colour))
    if randaugment:
        examples = examples.random_map(RandAugment(randaugment))
    batches = examples.map(_to_arrays).batch(batch_size // processes)[start * processes + process :: processes]
    prefetched = batches.to_iter_dataset(_READ_AHEAD)
    if num_workers:
        # grain's workers read absl's flags, which nobody has parsed where the program is not an absl one.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        prefetched = prefetched.mp_prefetch(grain.multiprocessing.MultiprocessingOptions(num_workers=num_workers))
    return iter(prefetched)


def test_batches(
    source: Sequence[dict[str, Any]], *, batch_size: int, process: int = 0, processes: int = 1
) -> Iterator[Batch]:
    """One process's share of batches of one size that hold every example once, in order.

    Yields "image" float32 [N / P, H, W, C] in [0, 1], "label" int32 [N / P] and "weight" float32 [N / P], 1 or 0.
    The arguments are those of `train_batches`; all images must have one size. All processes get the same number of
    batches. The last batch is filled up with zeros of weight 0.
    """
    filling = {key: np.zeros_like(array) for key, array in _to_arrays(source[0]).items()}

    def read(index: int) -> Batch:
        example = _to_arrays(source[index]) if index < len(source) else filling
        return {**example, "weight": np.array(index < len(source), np.float32)}

    examples = grain.MapDataset.range(-(-len(source) // batch_size) * batch_size).map(read)
    batches = examples.batch(batch_size // processes)[process::processes]
    return iter(batches.to_iter_dataset(_READ_AHEAD))


def _to_arrays(example: dict[str, Any]) -> dict[str, np.ndarray]:
    return {"image": example["image"].astype(np.float32) / 255, "label": np.int32(example["label"])}
