import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from coda_jax import InputError
from coda_jax.attribution.occlusion import occlusion
from tests.attribution.dense import DENSE, INPUTS, TARGETS, WEIGHTS, dense, sums

ROUNDING = {"rtol": 1e-4, "atol": 1e-6}  # Differences of float32 values near 1.


def dense_by_definition(image, target, window, stride, fill):
    """The attribution of every pixel of one input, window by window, in float64."""
    height, width, _ = image.shape
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for top in {*range(0, height - window + 1, stride), height - window}:
        for left in {*range(0, width - window + 1, stride), width - window}:
            square = np.s_[top : top + window, left : left + window]
            occluded = image.astype(float)
            occluded[square] = fill
            total[square] += np.tanh(image.ravel() @ WEIGHTS[:, target]) - np.tanh(
                occluded.ravel() @ WEIGHTS[:, target]
            )
            count[square] += 1
    return total / count


def test_by_hand():
    # The windows cover columns 0 and 1, 1 and 2, 2 and 3: the drops are 3, 5 and 7.
    inputs = np.array([[1, 2, 3, 4], [0, 0, 0, 0]], np.float32).reshape(1, 2, 4, 1)
    maps = occlusion(sums, inputs, np.array([[0, 1]]), window=2, stride=1)[0, ..., 0]
    row = np.array([3, 4, 6, 7])
    np.testing.assert_allclose(maps, [[row, row], [2 * row, 2 * row]], rtol=1e-6)  # Rounding.


def test_fill_by_hand():
    inputs = np.array([1, 4], np.float32).reshape(1, 1, 1, 2)
    maps = occlusion(sums, inputs, np.array([0]), window=1, stride=1, fill=2.0)
    np.testing.assert_allclose(maps, [[[[[0.5, 0.5]]]]], rtol=1e-6)  # A drop of 1 + 4 - 2 - 2; rounding.


def test_last_window_ends_at_the_edge_by_hand():
    # Columns 0 and 1, 2 and 3, and, as the fifth would be left over, 3 and 4: the drops are 3, 7 and 9.
    inputs = np.array([[1, 2, 3, 4, 5], [0, 0, 0, 0, 0]], np.float32).reshape(1, 2, 5, 1)
    maps = occlusion(sums, inputs, np.array([0]), window=2, stride=2)[0, 0, ..., 0]
    np.testing.assert_allclose(maps, [[3, 3, 7, 8, 9]] * 2, rtol=1e-6)  # Rounding.


@pytest.mark.parametrize(("window", "stride", "fill"), [(3, 2, 0.0), (4, 3, 0.5), (7, 1, [0.2, 0.7]), (1, 1, 1.0)])
def test_is_the_definition(window, stride, fill):
    maps = occlusion(DENSE, INPUTS, TARGETS, window=window, stride=stride, fill=fill)
    for image, targets, image_maps in zip(INPUTS, TARGETS, maps, strict=True):
        for target, one in zip(targets, image_maps, strict=True):
            expected = dense_by_definition(image, target, window, stride, fill)
            np.testing.assert_allclose(one.sum(-1), expected, **ROUNDING)


@pytest.mark.parametrize(("window", "stride"), [(3, 2), (5, 1)])
def test_is_captums(window, stride):
    torch = pytest.importorskip("torch")
    captum = pytest.importorskip("captum.attr")

    def peer(images):
        return torch.tanh(images.permute(0, 2, 3, 1).flatten(1) @ torch.tensor(WEIGHTS))

    expected = captum.Occlusion(peer).attribute(
        torch.tensor(INPUTS.transpose(0, 3, 1, 2)),
        sliding_window_shapes=(2, window, window),
        strides=(2, stride, stride),
        baselines=0.25,
        target=torch.tensor(TARGETS[:, 0]),
    )
    maps = occlusion(DENSE, INPUTS, TARGETS[:, 0], window=window, stride=stride, fill=0.25)
    for channel in range(2):  # Captum gives to each channel what ours shares among them.
        np.testing.assert_allclose(maps[:, 0].sum(-1), expected[:, channel], **ROUNDING)


def test_shapes_and_channels():
    several = occlusion(DENSE, INPUTS, TARGETS, window=3)
    assert several.shape == (3, 2, 9, 7, 2)
    assert several.dtype == jnp.float32
    np.testing.assert_array_equal(several[..., 0], several[..., 1])
    single = occlusion(DENSE, INPUTS, TARGETS[:, 1], window=3)
    np.testing.assert_allclose(single, several[:, 1:], **ROUNDING)


@pytest.mark.parametrize("copies_at_once", [1, 4, 100])
def test_chunks_change_nothing(copies_at_once):
    whole = occlusion(DENSE, INPUTS, TARGETS, window=3, stride=2, copies_at_once=12)  # All 12 windows at once.
    chunked = occlusion(DENSE, INPUTS, TARGETS, window=3, stride=2, copies_at_once=copies_at_once)
    np.testing.assert_allclose(chunked, whole, **ROUNDING)


def test_chunks_bound_the_memory():
    def temporaries(stride, copies_at_once):
        inputs = jax.ShapeDtypeStruct((2, 64, 64, 2), jnp.float32)
        weights = jax.ShapeDtypeStruct((64 * 64 * 2, 3), jnp.float32)

        def explain(weights, inputs):
            logits_fn, targets = Partial(dense, weights), np.array([0, 1])
            return occlusion(logits_fn, inputs, targets, window=4, stride=stride, copies_at_once=copies_at_once)

        return jax.jit(explain).lower(weights, inputs).compile().memory_analysis().temp_size_in_bytes

    copy = 64 * 64 * 2 * 4  # Bytes of one occluded copy.
    assert temporaries(1, 128) - temporaries(1, 8) > 100 * copy
    assert temporaries(1, 8) - temporaries(4, 8) < 20 * copy  # 3,721 windows rather than 256.


def test_under_jit_and_vmap():
    expected = occlusion(DENSE, INPUTS, TARGETS, window=3)

    def explain(inputs, targets):
        return occlusion(DENSE, inputs, targets, window=3)

    np.testing.assert_allclose(jax.jit(explain)(INPUTS, TARGETS), expected, **ROUNDING)
    one_by_one = jax.vmap(lambda one, targets: explain(one[None], targets[None])[0])(INPUTS, TARGETS)
    np.testing.assert_allclose(one_by_one, expected, **ROUNDING)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 8}, "window must be at most the inputs' 9 x 7 pixels, not 8"),
        ({"window": 0}, "window must be at least 1, not 0"),
        ({"stride": 0}, "stride must be at least 1, not 0"),
        ({"window": 3, "stride": 4}, "stride must be at most the window's 3, not 4"),
        ({"copies_at_once": 0}, "copies_at_once must be at least 1, not 0"),
        ({"fill": np.zeros(3)}, r"fill must broadcast to the inputs' \[9, 7, 2\], but has shape \[3\]"),
        ({"inputs": INPUTS[0]}, r"inputs must be floating-point \[N, H, W, C\], not float32 \[9, 7, 2\]"),
        ({"targets": np.full(3, 3)}, "target 3 is not a class"),
    ],
)
def test_bad_arguments(arguments, message):
    arguments = {"inputs": INPUTS, "targets": TARGETS, "window": 5} | arguments
    with pytest.raises(InputError, match=message):
        occlusion(DENSE, **arguments)
