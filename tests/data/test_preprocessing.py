import io

import numpy as np
import pytest
from PIL import Image

from coda_jax import InputError
from coda_jax.data import Preprocessing, prepare, read_image
from coda_jax.data.preprocessing import resize_shorter_side

FOUR = Preprocessing(size=4, shorter_side=4)
COLOURS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5


def test_an_image_of_the_data_set_stays_as_it_is():
    prepared, done = prepare(Image.fromarray(COLOURS), FOUR)
    assert prepared.dtype == np.uint8 and done == ()
    np.testing.assert_array_equal(prepared, COLOURS)


def test_the_centre_is_cropped():
    wide = np.zeros((4, 8, 3), np.uint8)
    wide[:, 2:6] = COLOURS
    prepared, done = prepare(Image.fromarray(wide), FOUR)
    np.testing.assert_array_equal(prepared, COLOURS)
    assert done == ("cropped to the centre, 4×4 of 8×4 pixels",)


def test_the_shorter_side_is_resized_before_the_crop():
    prepared, done = prepare(Image.fromarray(np.pad(COLOURS, ((1, 1), (3, 3), (0, 0)))), Preprocessing(4, 6))
    np.testing.assert_array_equal(prepared, COLOURS)
    assert done == ("cropped to the centre, 4×4 of 10×6 pixels",)


@pytest.mark.parametrize(("width", "height", "shape"), [(9, 6, (4, 6, 3)), (6, 9, (6, 4, 3)), (4, 4, (4, 4, 3))])
def test_the_whole_with_a_shorter_side(width, height, shape):
    whole = resize_shorter_side(Image.new("L", (width, height), 7), Preprocessing(size=3, shorter_side=4))
    assert (whole.shape, whole.dtype) == (shape, np.uint8)
    assert (whole == 7).all()
    # Of an image that has this shorter side nothing changes.
    wide = np.concatenate((COLOURS, COLOURS), axis=1)
    np.testing.assert_array_equal(resize_shorter_side(Image.fromarray(wide), FOUR), wide)


@pytest.mark.parametrize(("pixels", "change"), [(8, "reduced"), (2, "enlarged")])
def test_resizing(pixels, change):
    prepared, done = prepare(Image.new("RGB", (pixels, pixels), (10, 20, 30)), FOUR)
    np.testing.assert_array_equal(prepared, np.broadcast_to(np.uint8([10, 20, 30]), (4, 4, 3)))
    assert done == (f"{change} from {pixels}×{pixels} to 4×4 pixels",)


def test_large_jpegs_are_decoded_in_a_reduced_size(tmp_path):
    # Smooth, so that any good reduction of it is the same; its rows and columns differ.
    rows, columns = np.mgrid[:600, :803] / 803
    pixels = np.uint8(np.stack([255 * rows, 255 * columns, 127 + 80 * np.sin(9 * columns)], axis=-1))
    square = Preprocessing(size=32, shorter_side=36)
    for orientation in (1, 6):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for suffix in ("jpg", "png"):
            Image.fromarray(pixels).save(tmp_path / f"large.{suffix}", exif=exif, quality=98)
        reduced, done = read_image(tmp_path / "large.jpg", square)
        whole, done_whole = read_image(tmp_path / "large.png", square)
        # Of 255: JPEG's rounding, and half a pixel of the reduced size at the border.
        np.testing.assert_allclose(np.float32(reduced), whole, atol=4)
        assert done == done_whole
        assert f"533×533 of {'803×600' if orientation == 1 else '600×803'} pixels" in done[-2]
    with Image.open(tmp_path / "large.jpg") as image:
        prepare(image, square)
        assert image.size == (101, 75)  # An eighth, which is at least twice 36.


def test_a_strip_of_any_length():
    assert prepare(Image.new("RGB", (20_000, 1), "red"), FOUR)[0].shape == (4, 4, 3)


def test_grey_alpha_palette_and_sixteen_bits():
    grey, done = prepare(Image.new("L", (4, 4), 77), FOUR)
    assert (grey == 77).all() and done == ()
    seen, done = prepare(Image.new("RGBA", (4, 4), (200, 100, 0, 51)), FOUR)
    # Over white: a fifth of the colour, four fifths of 255; Pillow's rounding is exact to 1.
    np.testing.assert_allclose(seen[0, 0], [244, 224, 204], atol=1)
    assert done == ("put on white where it is transparent",)
    assert (prepare(Image.new("RGB", (4, 4), (9, 9, 9)).quantize(2), FOUR)[0] == 9).all()
    deep, done = prepare(Image.fromarray(np.full((4, 4), 257 * 100, np.uint16)), FOUR)
    assert (deep == 100).all() and done == ("reduced from 16 to 8 bits",)


def test_a_grey_data_set_gets_equal_channels():
    prepared, done = prepare(Image.fromarray(COLOURS), FOUR._replace(grey=True))
    assert (prepared == prepared[..., :1]).all() and done == ("made grey",)


def test_exif_orientation(tmp_path):
    image = Image.fromarray(COLOURS)
    exif = image.getexif()
    exif[0x0112] = 3  # Upside down.
    image.save(tmp_path / "turned.png", exif=exif)
    prepared, done = read_image(tmp_path / "turned.png", FOUR)
    np.testing.assert_array_equal(prepared, COLOURS[::-1, ::-1])
    assert done == ("turned upright, as its EXIF orientation says",)


def test_what_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="none.png: No such file or directory"):
        read_image(tmp_path / "none.png", FOUR)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "damaged.ppm").write_text("P6 2T0 4 255 ")
    with pytest.raises(InputError, match="damaged.ppm: not an image that Pillow can read"):
        read_image(tmp_path / "damaged.ppm", FOUR)
    with pytest.raises(InputError, match="text.png: not an image that Pillow can read"):
        read_image(tmp_path / "text.png", FOUR)
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(file, "png")
    (tmp_path / "cut.png").write_bytes(file.getvalue()[:4000])
    with pytest.raises(InputError, match="cut.png: the image is damaged"):
        read_image(tmp_path / "cut.png", FOUR)
    Image.new("F", (4, 4)).save(tmp_path / "float.tiff")
    with pytest.raises(InputError, match="float.tiff: the image has floating-point pixels"):
        read_image(tmp_path / "float.tiff", FOUR)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 7)
    with pytest.raises(InputError, match="float.tiff: Image size .* exceeds limit"):
        read_image(tmp_path / "float.tiff", FOUR)
