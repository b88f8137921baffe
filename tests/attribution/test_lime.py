import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from coda_jax import InputError
from coda_jax.attribution.lime import draw_on, find_superpixels, lime
from tests.attribution.dense import dense

ROUNDING = {"rtol": 1e-3, "atol": 1e-6}  # Of regressions on float32 logits near 1.

KEY = jax.random.key(0)
QUADRANTS = np.kron([[0, 1], [2, 3]], np.ones((6, 6), int))
UNEQUAL = np.array([0] * 5 + [2] * 7)[:, None] + np.array([0] * 7 + [1] * 5)
COLOURS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], np.float32)
# Of different numbers of superpixels: four quadrants, two halves, and a gradient.
INPUTS = np.stack(
    [COLOURS[QUADRANTS], COLOURS[QUADRANTS % 2], np.linspace(0, 1, 432, dtype=np.float32).reshape(12, 12, 3)]
)
WEIGHTS = np.random.default_rng(1).normal(size=(12 * 12 * 3, 3)).astype(np.float32) / 10
TARGETS = np.array([[2, 0], [1, 1], [0, 2]])


DENSE = Partial(dense, WEIGHTS)


def linear(weights, inputs):
    return inputs.reshape(len(inputs), -1) @ weights


def ridge_by_definition(on, logits, weights, ridge):
    """The coefficients b that minimise Σ_i weights_i (constant + on_i·b - logits_i)² + ridge |b|²."""
    design = np.column_stack([np.ones(len(on)), on])
    penalty = ridge * np.eye(design.shape[1])
    penalty[0, 0] = 0
    return np.linalg.solve(design.T * weights @ design + penalty, design.T * weights @ logits)[1:]


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_superpixels_follow_the_colours(channels):
    colours = np.array([0.0, 0.3, 0.6, 1.0])[:, None] if channels < 3 else COLOURS
    encoded = np.concatenate([colours, 1 - colours], axis=1)[:, :channels]
    superpixels = find_superpixels(encoded[UNEQUAL].astype(np.float32), 4, 10.0)
    np.testing.assert_array_equal(superpixels, UNEQUAL)


def test_superpixels_are_of_the_first_three_channels():
    image = np.concatenate([COLOURS[UNEQUAL], INPUTS[0]], axis=-1)
    np.testing.assert_array_equal(find_superpixels(image, 4, 10.0), UNEQUAL)


def test_draw_on():
    on = draw_on(KEY, 1001, 8)
    assert on.shape == (1001, 8)
    assert on.dtype == bool
    assert on[0].all()
    # Of 8,000 draws 4,000 are expected to be on, with a standard deviation of 45.
    assert 3800 < on[1:].sum() < 4200
    np.testing.assert_array_equal(on, draw_on(KEY, 1001, 8))
    assert (on != draw_on(jax.random.key(1), 1001, 8)).mean() > 0.4


@pytest.mark.parametrize("fill", [0.0, 0.5])
def test_linear_logits_by_hand(fill):
    # Without shrinkage a coefficient is the sum of weight times (input - fill) over its superpixel.
    maps = lime(Partial(linear, WEIGHTS), INPUTS[:1], TARGETS[:1], key=KEY, segments=4, ridge=1e-6, fill=fill)[0]
    for target, one in zip(TARGETS[0], maps, strict=True):
        terms = WEIGHTS[:, target].reshape(12, 12, 3) * (INPUTS[0] - fill)
        coefficients = np.array([terms[QUADRANTS == superpixel].sum() for superpixel in range(4)])
        shared = (coefficients / (36 * 3))[QUADRANTS]  # By 36 pixels of 3 channels.
        np.testing.assert_allclose(one, np.stack([shared] * 3, axis=-1), rtol=1e-3, atol=1e-5)  # Shrinkage of 1e-6.
        np.testing.assert_allclose(one.sum(), coefficients.sum(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("ridge", "kernel_width", "fill"), [(1.0, 0.25, 0.0), (5.0, 0.1, [0.5, 0.1, 0.9])])
def test_is_the_definition(ridge, kernel_width, fill):
    settings = {"ridge": ridge, "kernel_width": kernel_width, "fill": fill}
    maps = lime(DENSE, INPUTS, TARGETS, key=KEY, segments=9, samples=50, **settings)
    numbers = set()
    for image, targets, image_maps in zip(INPUTS, TARGETS, maps, strict=True):
        superpixels = find_superpixels(image, 9, 10.0)
        numbers.add(superpixels.max() + 1)
        on = draw_on(KEY, 50, superpixels.max() + 1)
        perturbed = np.where(on[:, superpixels, None], image, fill)
        logits = np.tanh(perturbed.reshape(50, -1) @ WEIGHTS[:, targets].astype(float))
        norms = np.sqrt(on.sum(1)) * np.sqrt(on.shape[1])
        cosines = np.divide(on.sum(1), norms, out=np.zeros(50), where=norms > 0)
        coefficients = ridge_by_definition(on, logits, np.exp(-((1 - cosines) ** 2) / kernel_width**2), ridge)
        for superpixel, expected in enumerate(coefficients):
            within = image_maps[:, superpixels == superpixel].sum(-1)
            shared = expected / (superpixels == superpixel).sum()
            np.testing.assert_allclose(within, np.broadcast_to(shared[:, None], within.shape), **ROUNDING)
    assert len(numbers) == 3


def test_is_captums():
    torch = pytest.importorskip("torch")
    captum = pytest.importorskip("captum.attr")
    models = pytest.importorskip("captum._utils.models.linear_model")
    superpixels = find_superpixels(INPUTS[2], 9, 10.0)
    on = draw_on(KEY, 50, superpixels.max() + 1)
    vectors = iter(torch.tensor(on, dtype=torch.float32)[:, None])

    def similarity(original, perturbed, vector, **_):
        distance = 1 - torch.nn.functional.cosine_similarity(vector, torch.ones_like(vector))
        return torch.exp(-(distance**2) / 0.25**2)

    def perturb(vector, original, **_):
        shown = vector.bool()[0][torch.tensor(superpixels)][None, :, :, None]
        return torch.where(shown, original, 0.5)

    peer = captum.LimeBase(
        lambda images: torch.tanh(images.flatten(1) @ torch.tensor(WEIGHTS)),
        interpretable_model=models.SkLearnRidge(alpha=1.0),
        similarity_func=similarity,
        perturb_func=lambda original, **_: next(vectors),
        perturb_interpretable_space=True,
        from_interp_rep_transform=perturb,
        to_interp_rep_transform=None,
    )
    expected = peer.attribute(torch.tensor(INPUTS[2:]), target=1, n_samples=50)[0].numpy()
    maps = lime(DENSE, INPUTS[2:], np.array([1]), key=KEY, segments=9, samples=50, fill=0.5)
    shared = (expected / np.bincount(superpixels.ravel()))[superpixels]
    np.testing.assert_allclose(maps[0, 0].sum(-1), shared, **ROUNDING)


def test_shapes_and_channels():
    several = lime(DENSE, INPUTS, TARGETS, key=KEY, segments=9, samples=20)
    assert several.shape == (3, 2, 12, 12, 3)
    assert several.dtype == jnp.float32
    np.testing.assert_array_equal(several, np.broadcast_to(several[..., :1], several.shape))
    single = lime(DENSE, INPUTS, TARGETS[:, 1], key=KEY, segments=9, samples=20)
    np.testing.assert_allclose(single, several[:, 1:], **ROUNDING)


def test_an_example_alone_gets_the_same():
    together = lime(DENSE, INPUTS, TARGETS, key=KEY, segments=9, samples=20)
    alone = lime(DENSE, INPUTS[2:], TARGETS[2:], key=KEY, segments=9, samples=20)
    np.testing.assert_allclose(alone[0], together[2], **ROUNDING)


@pytest.mark.parametrize("copies_at_once", [1, 7, 100])
def test_chunks_change_nothing(copies_at_once):
    whole = lime(DENSE, INPUTS, TARGETS, key=KEY, segments=9, samples=20, copies_at_once=20)
    chunked = lime(DENSE, INPUTS, TARGETS, key=KEY, segments=9, samples=20, copies_at_once=copies_at_once)
    np.testing.assert_allclose(chunked, whole, **ROUNDING)


def test_all_chunks_of_all_examples_are_one_program():
    shapes = []

    def logits_fn(inputs):
        shapes.append(inputs.shape)
        return dense(WEIGHTS, inputs)

    lime(logits_fn, INPUTS, TARGETS, key=KEY, segments=9, samples=20, copies_at_once=8)
    assert shapes == [(3, 12, 12, 3), (8, 12, 12, 3)]  # The first only to learn the number of classes.


@pytest.mark.parametrize(
    "explain",
    [
        jax.jit(lambda inputs, targets: lime(DENSE, inputs, targets, key=KEY)),
        jax.vmap(lambda image, target: lime(DENSE, image[None], target[None], key=KEY)),
        lambda inputs, targets: jax.jit(lambda targets: lime(DENSE, inputs, targets, key=KEY))(targets),
        lambda inputs, targets: jax.jit(lambda key: lime(DENSE, inputs, targets, key=key))(KEY),
        lambda inputs, targets: jax.jit(lambda weights: lime(Partial(dense, weights), inputs, targets, key=KEY))(
            WEIGHTS
        ),
    ],
    ids=["jit", "vmap", "targets", "key", "variables"],
)
def test_traced_arguments(explain):
    with pytest.raises(InputError, match="lime computes on the host, so call it outside of jax.jit"):
        explain(INPUTS, TARGETS[:, 0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"segments": 0}, "segments must be at least 1, not 0"),
        ({"samples": 0}, "samples must be at least 1, not 0"),
        ({"copies_at_once": 0}, "copies_at_once must be at least 1, not 0"),
        ({"fill": np.zeros(4)}, r"fill must broadcast to the inputs' \[12, 12, 3\], but has shape \[4\]"),
        ({"compactness": 0.0}, "compactness must be above 0, not 0"),
        ({"ridge": -1.0}, "ridge must be above 0, not -1"),
        ({"kernel_width": float("nan")}, "kernel_width must be finite, not nan"),
        ({"inputs": INPUTS[0]}, r"inputs must be floating-point \[N, H, W, C\], not float32 \[12, 12, 3\]"),
        ({"inputs": INPUTS.astype(int)}, r"inputs must be floating-point"),
        ({"targets": np.full(3, 3)}, "target 3 is not a class"),
    ],
)
def test_bad_arguments(arguments, message):
    arguments = {"inputs": INPUTS, "targets": TARGETS} | arguments
    with pytest.raises(InputError, match=message):
        lime(DENSE, key=KEY, **arguments)
