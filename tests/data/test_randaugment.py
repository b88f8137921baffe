import numpy as np
import pytest
from PIL import Image

from coda_jax.data.randaugment import OPERATIONS, RandAugment
from tests.data.photographs import cuttings

# 331 pixels wide, as AutoAugment's images: the farthest translation is by 150.
PHOTOGRAPH = next(cuttings(1, 331, 200))
GREY = (128, 128, 128)


def change(name, strength, image=PHOTOGRAPH):
    return np.asarray(OPERATIONS[name](image, strength)).astype(int)


def grey_levels(*levels):
    """A row of pixels."""
    return Image.fromarray(np.repeat(np.array([levels], np.uint8)[..., None], 3, axis=-1))


def test_the_papers_operations():
    names = "identity autocontrast equalize rotate solarize color posterize contrast brightness sharpness"
    assert list(OPERATIONS) == [*names.split(), "shear_x", "shear_y", "translate_x", "translate_y"]


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in ("autocontrast", "equalize")])
def test_a_strength_of_0_changes_nothing(name):
    np.testing.assert_array_equal(change(name, 0.0), PHOTOGRAPH)


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in ("identity", "autocontrast")])
def test_the_largest_strength_changes_much(name):
    for strength in (-1.0, 1.0):
        changed = change(name, strength)
        assert changed.shape == (200, 331, 3)
        assert np.abs(changed - PHOTOGRAPH).mean() > 1


def test_autocontrast_and_equalize():
    # Stretched to the whole range: 50 to 0, 150 to 255, and 100 between them.
    assert change("autocontrast", 1.0, grey_levels(50, 100, 150))[0, :, 0].tolist() == [0, 127, 255]
    # Equally many pixels at every level: their levels become equally far apart.
    levels = change("equalize", 1.0, grey_levels(*[100] * 2550, *[101] * 2550, *[150] * 2550))[0, ::2550, 0]
    np.testing.assert_allclose(levels, [0, 127.5, 255], atol=0.5)  # Rounded.


def test_solarize_inverts_what_is_bright():
    pixels = grey_levels(0, 100, 128, 200, 255)
    assert change("solarize", 0.5, pixels)[0, :, 0].tolist() == [0, 100, 127, 55, 0]
    assert change("solarize", -1.0, pixels)[0, :, 0].tolist() == [255, 155, 127, 55, 0]


def test_posterize_keeps_four_of_eight_bits():
    pixels = grey_levels(15, 16, 100, 255)
    assert change("posterize", 1.0, pixels)[0, :, 0].tolist() == [0, 16, 96, 240]
    assert change("posterize", 0.5, pixels)[0, :, 0].tolist() == [12, 16, 100, 252]  # Six bits.


@pytest.mark.parametrize(("strength", "factor"), [(-1.0, 0.1), (-0.5, 0.55), (0.5, 1.45), (1.0, 1.9)])
def test_brightness_contrast_and_colour(strength, factor):
    # Pillow cuts off what is behind the point: within 1.
    assert change("brightness", strength, grey_levels(100))[0, 0, 0] == pytest.approx(factor * 100, abs=1)
    # About the mean, 110.
    levels = change("contrast", strength, grey_levels(100, 120))[0, :, 0]
    np.testing.assert_allclose(levels, [110 - 10 * factor, 110 + 10 * factor], atol=1)
    # About the luminance, of which red is 0.299.
    red = change("color", strength, Image.new("RGB", (1, 1), (100, 0, 0)))[0, 0]
    np.testing.assert_allclose(red, np.clip([30 + 70 * factor, 30 - 30 * factor, 30 - 30 * factor], 0, 255), atol=1)


def test_sharpness():
    edge = grey_levels(*[100] * 5, *[150] * 5)
    edge = edge.resize((10, 5))
    steps = {strength: np.diff(change("sharpness", strength, edge)[2, :, 0])[4] for strength in (-1.0, 0.0, 1.0)}
    assert steps[-1.0] < steps[0.0] == 50 < steps[1.0]


def test_translations():
    pixels = np.asarray(PHOTOGRAPH)
    moved = change("translate_x", 1.0)
    np.testing.assert_array_equal(moved[:, :181], pixels[:, 150:])
    assert (moved[:, 181:] == GREY).all()
    np.testing.assert_array_equal(change("translate_x", -1.0)[:, 150:], pixels[:, :181])
    turned = PHOTOGRAPH.transpose(Image.Transpose.TRANSPOSE)
    np.testing.assert_array_equal(change("translate_y", 1.0, turned), np.swapaxes(moved, 0, 1))


def test_shears():
    pixels = np.asarray(PHOTOGRAPH)
    sheared = change("shear_x", 1.0)
    # Row y, its middle at y + 0.5, is moved by 0.3 (y + 0.5) pixels.
    for y in (0, 10, 100):
        by = round(0.3 * (y + 0.5))
        np.testing.assert_array_equal(sheared[y, : 331 - by], pixels[y, by:])
    turned = PHOTOGRAPH.transpose(Image.Transpose.TRANSPOSE)
    np.testing.assert_array_equal(change("shear_y", 1.0, turned), np.swapaxes(sheared, 0, 1))


def test_rotations_are_about_the_middle_by_up_to_30_degrees():
    pixels = np.zeros((101, 101, 3), np.uint8)
    pixels[48:53, 88:93] = 255  # 40 pixels to the right of the middle.
    for strength, degrees in ((1.0, 30), (-1.0, -30), (0.5, 15)):
        rotated = change("rotate", strength, Image.fromarray(pixels))[..., 0] == 255
        y, x = np.argwhere(rotated).mean(0) - 50
        angle = np.deg2rad(degrees)  # Against the clock, and y goes down.
        np.testing.assert_allclose((x, y), (40 * np.cos(angle), -40 * np.sin(angle)), atol=0.5)


def augmented(magnitude, seed, image=PHOTOGRAPH):
    element = {"image": np.asarray(image), "label": 3}
    return RandAugment(magnitude).random_map(element, np.random.default_rng(seed))


def test_two_operations_in_either_direction(monkeypatch):
    calls = []

    def record(name):
        return lambda image, strength: (calls.append((name, strength)), image)[1]

    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, record(name))
    for seed in range(1000):
        result = augmented(4, seed)
        assert (result["label"], result["image"].dtype) == (3, np.uint8)
        assert len(calls) == 2 * (seed + 1)
    strengths = [strength for _, strength in calls]
    assert set(strengths) == {-0.4, 0.4}
    # Of 2,000, half; and a fourteenth. Both within five standard deviations, of 22 and 11.5.
    assert 888 < strengths.count(0.4) < 1112
    for name in OPERATIONS:
        assert 85 < sum(called == name for called, _ in calls) < 201


def test_the_generator_determines_the_image():
    images = [augmented(10, seed)["image"] for seed in range(20)]
    assert len({image.tobytes() for image in images}) > 10
    for seed, image in enumerate(images):
        np.testing.assert_array_equal(augmented(10, seed)["image"], image)
