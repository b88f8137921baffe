from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coda_jax import InputError
from coda_jax.data import on_device

IMAGE = np.arange(1, 13, dtype=np.uint8).reshape(2, 2, 3)
KEY = jax.random.key(0)
# Image i is filled with the value i.
EXAMPLES = {
    "image": jnp.full((10, 2, 2, 3), jnp.arange(10)[:, None, None, None], jnp.uint8),
    "label": jnp.arange(10),
}


def counts(flip, padding, draws):
    """How often each different image comes, by its bytes."""
    change = jax.vmap(lambda key: on_device.random_flip_and_crop(key, IMAGE, flip=flip, padding=padding))
    images = np.asarray(jax.jit(change)(jax.random.split(KEY, draws)))
    assert (images.shape, images.dtype) == ((draws, 2, 2, 3), np.uint8)
    different, numbers = np.unique(images, axis=0, return_counts=True)
    return dict(zip((image.tobytes() for image in different), numbers, strict=True))


def test_without_flip_or_crop_nothing_changes():
    assert counts(flip=False, padding=0, draws=50) == {IMAGE.tobytes(): 50}


def test_flip_mirrors_left_and_right_half_of_the_time():
    numbers = counts(flip=True, padding=0, draws=1000)
    assert numbers.keys() == {IMAGE.tobytes(), IMAGE[:, ::-1].tobytes()}
    assert 430 < numbers[IMAGE.tobytes()] < 570  # Over four standard deviations of 16 on each side.


def test_a_crop_moves_the_image_and_fills_with_zeros():
    pixel = IMAGE[0, 0]
    moved_by_one = np.zeros_like(IMAGE)
    moved_by_one[1, 1] = pixel
    assert moved_by_one.tobytes() in counts(flip=False, padding=1, draws=200)


def test_every_flip_and_offset_is_equally_probable():
    numbers = counts(flip=True, padding=1, draws=9000)
    padded = [np.pad(image, ((1, 1), (1, 1), (0, 0))) for image in (IMAGE, IMAGE[:, ::-1])]
    expected = {image[i : i + 2, j : j + 2].tobytes() for image in padded for i in range(3) for j in range(3)}
    assert numbers.keys() == expected and len(expected) == 18
    # χ² of 17 degrees of freedom exceeds 40.8 once in a thousand; the key is fixed.
    assert sum((number - 500) ** 2 / 500 for number in numbers.values()) < 40.8


def test_every_epoch_has_its_own_permutation():
    epoch_orders = jax.jit(on_device.epoch_orders, static_argnames=("num_epochs", "num_examples"))
    orders = epoch_orders(KEY, 3, num_epochs=4, num_examples=10)
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.broadcast_to(np.arange(10), (4, 10)))
    assert len(np.unique(orders, axis=0)) == 4
    # Whichever epochs it is computed with.
    np.testing.assert_array_equal(epoch_orders(KEY, 5, num_epochs=1, num_examples=10), orders[2:3])
    other = epoch_orders(jax.random.key(1), 3, num_epochs=4, num_examples=10)
    assert not np.array_equal(orders, other)


@partial(jax.jit, static_argnames=("flip", "crop_padding"))
def batch(indices, positions, flip=False, crop_padding=0):
    return on_device.augmented_batch(EXAMPLES, indices, KEY, positions, flip=flip, crop_padding=crop_padding)


def test_images_are_floats_that_belong_to_their_labels():
    result = batch(np.array([7, 0, 7]), np.arange(3))
    assert result["image"].dtype == np.float32
    np.testing.assert_array_equal(result["label"], [7, 0, 7])
    expected = np.broadcast_to(np.array([7, 0, 7])[:, None, None, None] / np.float32(255), (3, 2, 2, 3))
    np.testing.assert_allclose(result["image"], expected, rtol=1e-6)  # Rounding of one division.


def test_augmentation_depends_on_the_position_alone():
    whole = batch(np.full(6, 4), np.arange(20, 26), flip=True, crop_padding=2)["image"]
    part = batch(np.full(2, 4), np.arange(22, 24), flip=True, crop_padding=2)["image"]
    np.testing.assert_array_equal(part, whole[2:4])
    assert len(np.unique(whole, axis=0)) > 1


def test_read():
    images, labels = map(np.asarray, EXAMPLES.values())
    source = [{"image": image, "label": int(label)} for image, label in zip(images, labels, strict=True)]
    examples = on_device.read(source)
    assert (examples["image"].dtype, examples["label"].dtype) == (np.uint8, np.int32)
    for key, array in EXAMPLES.items():
        np.testing.assert_array_equal(examples[key], array)


def test_images_of_differing_sizes_are_refused():
    source = [{"image": np.zeros((2, width, 3), np.uint8), "label": 0} for width in (2, 2, 5)]
    message = "needs images of one size, but some are 2×2×3 and some 2×5×3: use on_device=False"
    with pytest.raises(InputError, match=message):
        on_device.read(source)


class Device:
    def memory_stats(self):
        return {"bytes_limit": 10**9}


def test_more_images_than_the_device_has_memory_for(monkeypatch):
    source = [{"image": np.zeros((1000, 1000, 3), np.uint8), "label": 0}] * 400  # 1.2 GB, were they all different.
    monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
    with pytest.raises(
        InputError, match="on_device needs 1.2 GB for the images, but a device has 1 GB: use on_device=F"
    ):
        on_device.read(source)
    assert len(on_device.read(source[:1])["label"]) == 1
