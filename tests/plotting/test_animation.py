import numpy as np

from coda_jax.plotting.animation import explained_frame


def test_image_and_maps_side_by_side():
    image = np.array([[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [100, 110, 120]]], np.uint8)
    maps = np.array([[[0.0, 1.0], [-1.0, 5.0]], [[0.0, 0.0], [0.0, 0.0]]])
    frame = explained_frame(image, maps, ["cat 50%", "dog 9%"], scale=1.0)
    # Every pixel is 128 wide, under a caption of 28; between two panels of 256 are 8.
    assert frame.shape == (28 + 256, 3 * 256 + 2 * 8, 3)
    np.testing.assert_array_equal(frame[28::128, :256:128], image)
    first, second = frame[28::128, 264:520:128], frame[28::128, 528::128]
    white, red, blue = first[0, 0], first[0, 1], first[1, 0]
    assert (white > 240).all() and red[0] > 2 * red[2] and blue[2] > 2 * blue[0]
    np.testing.assert_array_equal(first[1, 1], red)  # Beyond the scale.
    np.testing.assert_array_equal(second, np.broadcast_to(white, (2, 2, 3)))
    assert (frame[:28, 264:520] < 128).any() and (frame[:28, :256] == 255).all()  # Captions are over the maps.


def test_sides_are_even():
    frame = explained_frame(np.zeros((257, 259, 3), np.uint8), np.zeros((1, 257, 259)), ["a"], scale=1.0)
    assert frame.shape == (286, 2 * 259 + 8, 3)
