import itertools

import numpy as np
import pytest

from coda_jax import InputError
from coda_jax.data import test_batches as evaluation_batches  # Under its own name pytest would take it for a test.
from coda_jax.data import train_batches

# Image i is filled with the value i.
SOURCE = [{"image": np.full((2, 2, 3), i, np.uint8), "label": i} for i in range(10)]
SETTINGS = {"batch_size": 4, "seed": 5, "flip": True, "crop_padding": 1}


def take(count, **changes):
    return list(itertools.islice(train_batches(SOURCE, **(SETTINGS | changes)), count))


def labels(batches):
    return [int(label) for batch in batches for label in batch["label"]]


def assert_same(batches, others):
    for one, other in zip(batches, others, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_every_epoch_is_a_new_permutation():
    seen = labels(take(5))  # 20 examples are two epochs, whose border is within the third batch.
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:] != list(range(10))


def test_images_are_floats_that_belong_to_their_labels():
    for batch in take(3, flip=False, crop_padding=0):
        assert (batch["image"].dtype, batch["label"].dtype) == (np.float32, np.int32)
        expected = np.broadcast_to(batch["label"][:, None, None, None] / np.float32(255), (4, 2, 2, 3))
        np.testing.assert_allclose(batch["image"], expected, rtol=1e-6)


def test_seed_determines_the_batches():
    assert_same(take(6), take(6))
    assert labels(take(6)) != labels(take(6, seed=6))


def test_start_skips_batches():
    assert_same(take(3, start=4), take(7)[4:])


@pytest.mark.parametrize("num_workers", [1, 3])
def test_workers_change_nothing(num_workers):
    assert_same(take(6, num_workers=num_workers), take(6))


def test_images_of_many_sizes_are_cropped_and_changed():
    rng = np.random.default_rng(0)
    photographs = [
        {"image": rng.integers(0, 256, (8 + index, 18 - index, 3)).astype(np.uint8), "label": index}
        for index in range(10)
    ]
    changes = {"size": 8, "randaugment": 10}

    def batches(**more):
        return list(itertools.islice(train_batches(photographs, **SETTINGS | changes | more), 6))

    assert all(batch["image"].shape == (4, 8, 8, 3) for batch in batches())
    # A batch is a function of the seed and its number alone.
    assert_same(batches(start=2)[:4], batches()[2:])
    plain = batches(randaugment=0)
    assert labels(plain) == labels(batches())
    changed = [(one["image"] != other["image"]).any((1, 2, 3)) for one, other in zip(plain, batches(), strict=True)]
    assert 0.6 < np.mean(changed)  # Identity may be drawn, or what changes nothing here.


def test_resized_crops_and_colours():
    photographs = [{"image": np.full((6 + index, 9, 3), 100, np.uint8), "label": index} for index in range(10)]
    changes = {"size": 4, "crop_scale": 0.3, "crop_padding": 0}
    batches = list(itertools.islice(train_batches(photographs, **SETTINGS | changes), 3))
    # What is everywhere the same stays so, whatever the crop.
    np.testing.assert_array_equal(batches[0]["image"], np.full((4, 4, 4, 3), np.float32(100) / 255))
    coloured = list(itertools.islice(train_batches(photographs, **SETTINGS | changes, colour=0.5), 3))
    assert labels(coloured) == labels(batches)
    assert all(batch["image"].std() > 0 for batch in coloured)
    with pytest.raises(InputError, match="crops are resized to size, which is None"):
        train_batches(photographs, **SETTINGS, crop_scale=0.3)


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_every_batch(processes):
    shares = [take(6, start=1, process=process, processes=processes) for process in range(processes)]
    joined = [
        {key: np.concatenate([share[key] for share in batch]) for key in batch[0]}
        for batch in zip(*shares, strict=True)
    ]
    assert_same(joined, take(6, start=1))


@pytest.mark.parametrize(("batch_size", "processes"), [(4, 2), (8, 4), (16, 2), (20, 2), (4, 4)])
def test_processes_evaluate_every_example_once(batch_size, processes):
    shares = [
        list(evaluation_batches(SOURCE, batch_size=batch_size, process=process, processes=processes))
        for process in range(processes)
    ]
    assert len({len(batches) for batches in shares}) == 1
    assert all(len(batch["label"]) == batch_size // processes for batches in shares for batch in batches)
    counted = [label for batches in shares for batch in batches for label in batch["label"][batch["weight"] == 1]]
    assert sorted(counted) == list(range(10))


@pytest.mark.parametrize("batch_size", [1, 4, 5, 16])
def test_evaluation_sees_every_example_once(batch_size):
    source = SOURCE[::-1]  # Of whose images the first is not black.
    batches = list(evaluation_batches(source, batch_size=batch_size))
    assert all(batch["image"].shape == (batch_size, 2, 2, 3) for batch in batches)
    counted = [label for batch in batches for label in batch["label"][batch["weight"] == 1]]
    assert counted == list(range(9, -1, -1))
    assert all((batch["image"][batch["weight"] == 0] == 0).all() for batch in batches)
    assert sum(batch["weight"].sum() for batch in batches) == 10
