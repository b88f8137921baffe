import numpy as np

from coda_jax.data import digits


def test_split():
    train, test, names = digits.data_sources()
    assert (len(train), len(test), names) == (1437, 360, tuple("0123456789"))
    counts = np.bincount([example["label"] for example in test])
    assert counts.min() >= 34 and counts.max() <= 38  # Stratified: 36 each, as the classes are nearly equal.
    pixels = {example["image"].tobytes() for example in train}
    assert sum(example["image"].tobytes() in pixels for example in test) == 0


def test_images_use_the_range():
    train, _, _ = digits.data_sources()
    images = np.stack([example["image"] for example in train])
    assert (images.shape, images.dtype, images.min(), images.max()) == ((1437, 8, 8, 3), np.uint8, 0, 255)
    np.testing.assert_array_equal(images[..., 0], images[..., 2])
