import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coda_jax import InputError, add_inverse


def test_by_hand():
    encoded = add_inverse(jnp.array([[[[0.0, 0.25, 1.0]]]]))
    np.testing.assert_array_equal(encoded, [[[[0.0, 0.25, 1.0, 1.0, 0.75, 0.0]]]])


def test_dtype_is_kept():
    assert add_inverse(jnp.zeros((1, 2, 2, 3), jnp.bfloat16)).dtype == jnp.bfloat16


def test_numpy_and_traced_images():
    images = np.full((1, 2, 2, 3), 0.5, np.float32)
    np.testing.assert_array_equal(jax.jit(add_inverse)(images), add_inverse(images))


def test_images_that_a_compiled_function_closes_over():
    images = jnp.full((1, 2, 2, 3), 0.5)
    np.testing.assert_array_equal(jax.jit(lambda: add_inverse(images))(), add_inverse(images))
    wrong = 3 * images
    with pytest.raises(InputError, match="range from 0 to 1.5"):
        jax.jit(lambda: add_inverse(wrong))()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 2, 3), np.float32), r"images must have shape \[N, H, W, 3\], not \[2, 2, 3\]"),
        (np.zeros((1, 3, 2, 2), np.float32), r"not \[1, 3, 2, 2\]: stack RGB images, channels last"),
        (np.zeros((1, 2, 2, 3), np.uint8), r"floating-point in \[0, 1\], not uint8: divide 8-bit pixels by 255"),
        (np.full((1, 2, 2, 3), 1.5, np.float32), r"must lie in \[0, 1\], but range from 0 to 1.5"),
        (np.full((1, 2, 2, 3), -0.5, np.float32), r"range from -0.5 to 0"),
        (np.full((1, 2, 2, 3), np.nan, np.float32), r"range from nan to nan"),
    ],
)
def test_bad_images(images, message):
    with pytest.raises(InputError, match=message):
        add_inverse(images)
