import numpy as np

from coda_jax.data.augmentation import RandomFlipAndCrop

IMAGE = np.arange(1, 13, dtype=np.uint8).reshape(2, 2, 3)


def augmented(flip, padding, draws=200):
    """Every different image that many draws give, as bytes."""
    change = RandomFlipAndCrop(flip, padding)
    rng = np.random.default_rng(0)
    results = [change.random_map({"image": IMAGE, "label": 3}, rng) for _ in range(draws)]
    assert all(result["label"] == 3 and result["image"].shape == (2, 2, 3) for result in results)
    assert all(result["image"].dtype == np.uint8 for result in results)
    return {result["image"].tobytes() for result in results}


def test_without_flip_or_crop_nothing_changes():
    assert augmented(flip=False, padding=0) == {IMAGE.tobytes()}


def test_flip_mirrors_left_and_right():
    assert augmented(flip=True, padding=0) == {IMAGE.tobytes(), IMAGE[:, ::-1].tobytes()}


def test_crop_shifts_by_up_to_the_padding():
    padded = np.pad(IMAGE, ((1, 1), (1, 1), (0, 0)))
    expected = {padded[i : i + 2, j : j + 2].tobytes() for i in range(3) for j in range(3)}
    assert augmented(flip=False, padding=1) == expected


def test_larger_images_are_cropped_anywhere():
    image = np.arange(4 * 3 * 3, dtype=np.uint8).reshape(4, 3, 3)
    change, rng = RandomFlipAndCrop(flip=False, padding=0, size=2), np.random.default_rng(0)
    crops = {change.random_map({"image": image}, rng)["image"].tobytes() for _ in range(200)}
    assert crops == {image[i : i + 2, j : j + 2].tobytes() for i in range(3) for j in range(2)}


def test_crops_of_padded_images():
    change, rng = RandomFlipAndCrop(flip=False, padding=1, size=4), np.random.default_rng(0)
    assert (
        change.random_map({"image": IMAGE}, rng)["image"].tolist() == np.pad(IMAGE, ((1, 1), (1, 1), (0, 0))).tolist()
    )


def test_images_are_flipped_half_of_the_time():
    change = RandomFlipAndCrop(flip=True, padding=0)
    rng = np.random.default_rng(0)
    flipped = [not np.array_equal(change.random_map({"image": IMAGE}, rng)["image"], IMAGE) for _ in range(1000)]
    assert 430 < sum(flipped) < 570  # Over four standard deviations of 16 on each side.
