"""Batches of a data set, read, augmented and prefetched by grain."""

from collections.abc import Iterator, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from coda_jax.data.augmentation import RandomFlipAndCrop

Batch = dict[str, np.ndarray]


def train_batches(
    source: Sequence[dict[str, Any]],
    *,
    batch_size: int,
    seed: int,
    flip: bool,
    crop_padding: int,
    start: int = 0,
    num_workers: int = 0,
) -> Iterator[Batch]:
    """Endless shuffled and augmented batches.

    Every epoch is a new permutation of all examples; where the batch size does not divide their number, a batch holds
    the end of one epoch and the start of the next. Batch `i` is a function of the seed and `i` alone, so that `start`
    is the whole position in the data, and the number of workers changes nothing.

    Args:
        source: random access to {"image": uint8 [H, W, C], "label": int}.
        batch_size: N.
        seed: of the order, the flips and the crops.
        flip: whether to mirror half of the images.
        crop_padding: pixels by which images are padded before they are cropped to their size.
        start: the number of batches to skip.
        num_workers: processes that prepare batches; 0 for threads of this one.

    Yields:
        {"image": float32 [N, H, W, C] in [0, 1], "label": int32 [N]}.
    """
    batches = (
        grain.MapDataset.source(source)
        .seed(seed)
        .shuffle()
        .repeat()
        .random_map(RandomFlipAndCrop(flip, crop_padding))
        .map(_to_arrays)
        .batch(batch_size)
        .slice(slice(start, None))
    )
    if not num_workers:
        return iter(batches.to_iter_dataset())
    # grain's workers read absl's flags, which nobody has parsed where the program is not an absl one.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    options = grain.multiprocessing.MultiprocessingOptions(num_workers=num_workers)
    return iter(batches.to_iter_dataset().mp_prefetch(options))


def test_batches(source: Sequence[dict[str, Any]], *, batch_size: int) -> Iterator[Batch]:
    """Every example once, in order, in batches of one size.

    Args:
        source: random access to {"image": uint8 [H, W, C], "label": int}.
        batch_size: N; the last batch is filled up with zeros of weight 0.

    Yields:
        {"image": float32 [N, H, W, C] in [0, 1], "label": int32 [N], "weight": float32 [N], 1 or 0}.
    """

    def fill(batch: Batch) -> Batch:
        count = len(batch["label"])
        batch = {**batch, "weight": np.ones(count, np.float32)}
        missing = batch_size - count
        return {key: np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)) for key, array in batch.items()}

    return iter(grain.MapDataset.source(source).map(_to_arrays).batch(batch_size).map(fill).to_iter_dataset())


def _to_arrays(example: dict[str, Any]) -> dict[str, np.ndarray]:
    return {"image": example["image"].astype(np.float32) / 255, "label": np.int32(example["label"])}
