import numpy as np

from coda_jax.data.augmentation import RandomColour, RandomFlipAndCrop, RandomResizedCrop

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


def test_resized_crops_have_areas_and_aspects_of_the_given_range():
    # The red of a pixel is where it is from left to right, its green from top to bottom: the difference over a crop
    # says how much of the image it shows.
    across, down = np.meshgrid(np.arange(40) * 6, np.arange(40) * 6)
    image = np.stack([across, down, np.full((40, 40), 7)], axis=2).astype(np.uint8)
    change, rng = RandomResizedCrop(0.25, 16), np.random.default_rng(0)
    crops = np.stack([change.random_map({"image": image, "label": 3}, rng)["image"] for _ in range(400)])
    assert (crops.shape, crops.dtype) == ((400, 16, 16, 3), np.uint8)
    assert (crops[..., 2] == 7).all()
    inner = crops[:, 4:12, 4:12].astype(float)  # Pixels near the borders are means of fewer.
    widths = (inner[:, 0, -1, 0] - inner[:, 0, 0, 0]) / 7 * 16 / 240
    heights = (inner[:, -1, 0, 1] - inner[:, 0, 0, 1]) / 7 * 16 / 240
    # Colours are whole numbers: shares are known within a tenth.
    areas, aspects = widths * heights, widths / heights
    assert 0.22 < areas.min() < 0.3 and 0.9 < areas.max() < 1.1
    assert 0.4 < (areas > 0.625).mean() < 0.6
    assert 0.7 < aspects.min() < 0.8 and 1.25 < aspects.max() < 1.45
    # Left and right of the middle, above and below it, are about as many.
    centres = inner.mean((1, 2))[:, :2]
    assert (abs((centres > 19.5 * 6).mean(0) - 0.5) < 0.1).all()
    assert (np.ptp(centres, axis=0) > 80).all()


def test_a_crop_of_all_of_a_square_is_the_square():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)

    class Whole:
        def uniform(self, low, high):
            return {0.5: 1.0, -1: 0.0, 0: 0.0}[low]  # The whole area, no aspect, and no place but the corner.

    np.testing.assert_array_equal(RandomResizedCrop(0.5, 8).random_map({"image": image}, Whole())["image"], image)


class Draws:
    """A generator whose uniform draws are those given."""

    def __init__(self, *values):
        self.values = list(values)

    def uniform(self, low, high):
        value = self.values.pop(0)
        assert low <= value <= high
        return value


def test_brightness_contrast_and_saturation_by_hand():
    image = np.array([[[100, 100, 100], [200, 200, 200]]], np.uint8)
    change = RandomColour(0.5)

    def changed(*draws):
        return change.random_map({"image": image}, Draws(*draws))["image"].tolist()

    assert changed(0, 0, 0) == image.tolist()
    assert changed(-0.5, 0, 0) == [[[50, 50, 50], [100, 100, 100]]]
    assert changed(0.5, 0, 0) == [[[150, 150, 150], [255, 255, 255]]]  # 300 is too bright.
    assert changed(0, -0.5, 0) == [[[125, 125, 125], [175, 175, 175]]]  # Half way to the mean of 150.
    red = np.array([[[255, 0, 0]]], np.uint8)
    half = change.random_map({"image": red}, Draws(0, 0, -0.5))["image"][0, 0]
    # Half way to the grey of red, which is 0.299 · 255 = 76.
    np.testing.assert_allclose(half, [(255 + 76) / 2, 38, 38], atol=1)
