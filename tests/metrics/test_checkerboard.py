import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coda_jax import CoDANet, InputError, add_inverse, load
from coda_jax.contributions import contribution_map, contributions
from coda_jax.metrics.checkerboard import checkerboard_share


def share(rows, period):
    return float(checkerboard_share(np.array(rows, np.float32)[None, None], period)[0, 0])


def test_patterns_that_repeat_themselves():
    board = np.indices((4, 4)).sum(0) % 2
    assert share(board, 2) == share(board, 4) == 1
    assert share(100 - 7 * board, 2) == 1  # The mean and the scale do not matter.
    columns = np.tile([0, 0, 1, 1], (4, 1))
    assert share(columns, 2) == 0
    assert share(columns, 4) == 1
    assert share(np.zeros((4, 4)), 2) == 0
    assert share(np.full((4, 4), 0.1), 2) == 0


def test_a_mixture_by_hand():
    # Means by place: 2 in even columns and 0 in odd ones, variance 1. The columns' own: 3, 0, 1, 0 about 1, 6 / 4.
    assert share(np.tile([3, 0, 1, 0], (2, 1)), 2) == pytest.approx(1 / 1.5, rel=1e-6)
    # A single pixel of 16 has all frequencies alike: 3 of 15.
    spot = np.zeros((4, 4))
    spot[1, 2] = 5
    assert share(spot, 2) == pytest.approx(3 / 15, rel=1e-6)


@pytest.mark.parametrize("period", [2, 3, 6])
def test_it_is_the_share_of_the_spectrum(period):
    maps = np.random.default_rng(0).normal(size=(2, 3, 12, 18))
    energy = np.abs(np.fft.fft2(maps)) ** 2
    energy[:, :, 0, 0] = 0
    expected = energy[:, :, :: 12 // period, :: 18 // period].sum((2, 3)) / energy.sum((2, 3))
    found = jax.jit(checkerboard_share, static_argnums=1)(maps.astype(np.float32), period)
    np.testing.assert_allclose(found, expected, rtol=1e-4)  # Sums of 216 values in float32.


def test_white_noise_has_what_the_docs_say():
    noise = np.random.default_rng(0).normal(size=(400, 1, 16, 16)).astype(np.float32)
    # The standard deviation of the mean is 0.0012.
    assert checkerboard_share(noise, 4).mean() == pytest.approx(15 / 255, abs=0.005)


def mean_share(model, variables, inputs):
    maps = contribution_map(jax.jit(lambda inputs: contributions(model, variables, inputs))(inputs))
    return float(checkerboard_share(maps, int(np.prod(model.strides))).mean())


def test_kernels_that_are_multiples_of_the_strides_leave_hardly_any(cifar10_dir):
    from coda_jax import data

    test = data.load("cifar10", str(cifar10_dir)).test
    inputs = add_inverse(np.stack([test[index]["image"] for index in range(32)]) / np.float32(255))
    uneven, even = (mean_share(*load(name)[:2], inputs) for name in ("cifar10-xs", "cifar10-two-hours"))
    assert uneven > 0.05
    assert even < 0.005


def test_how_many_patches_see_a_pixel():
    # A layer whose weights are all alike, on a constant image: all that differs is how many patches see a pixel.
    inputs = jnp.full((1, 16, 16, 6), 0.5)

    def inner_share(kernel_size):
        model = CoDANet((2,), (1,), (kernel_size,), (2,), (0,))
        variables = jax.tree.map(jnp.ones_like, jax.eval_shape(model.init, jax.random.key(0), inputs))
        maps = contribution_map(contributions(model, variables, inputs))
        return float(checkerboard_share(maps[:, :, 4:12, 4:12], 2)[0, 0])

    assert inner_share(3) == pytest.approx(1, abs=1e-4)
    assert inner_share(4) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("shape", "period", "message"),
    [
        ((2, 8, 8), 2, r"maps must have shape \[N, T, H, W\] with sides that the period of 2 divides, not \[2, 8, 8\]"),
        ((1, 1, 8, 9), 2, r"not \[1, 1, 8, 9\]"),
        ((1, 1, 9, 8), 2, r"not \[1, 1, 9, 8\]"),
        ((1, 1, 8, 8), 1, "period must be at least 2, not 1"),
        ((1, 1, 8, 8), 2.0, "period must be a whole number"),
    ],
)
def test_bad_arguments(shape, period, message):
    with pytest.raises(InputError, match=message):
        checkerboard_share(np.zeros(shape, np.float32), period)
