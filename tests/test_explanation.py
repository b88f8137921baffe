import jax
import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

from coda_jax import CoDANet, HybridNet, InputError, add_inverse, explain
from coda_jax.data import DatasetInfo, Preprocessing, prepare
from coda_jax.explanation import UNRECOGNISED
from coda_jax.interop.pretrained import Pretrained
from coda_jax.networks.bcos_resnet import BcosResNet
from coda_jax.networks.resnet import ResNetTrunk
from coda_jax.plotting.maps import colour_explanation
from tests.parameters import random_variables

MODEL = CoDANet(channels=(4, 3), ranks=(4, 2), kernel_sizes=(3, 1), strides=(1, 1), paddings=(1, 0), logit_bias=-1.0)
INFO = DatasetInfo(("cat", "dog", "a\x1b[31m"), Preprocessing(size=6, shorter_side=8))
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 12, 3), np.uint8)


@pytest.fixture(scope="module")
def network():
    return Pretrained(MODEL, random_variables(MODEL), INFO)


@pytest.fixture(scope="module")
def hybrid():
    model = HybridNet(ResNetTrunk(depth=8, blocks=2), MODEL)
    return Pretrained(model, jax.jit(model.init)(jax.random.key(0), np.zeros((1, 6, 6, 6), np.float32)), INFO)


def test_whatever_holds_the_pixels(network, tmp_path):
    Image.fromarray(IMAGES[1]).save(tmp_path / "one.png")
    several = [IMAGES[0], tmp_path / "one.png", [Image.fromarray(IMAGES[2]), IMAGES[3:] / 255]]
    explained = explain(network, several, "all")
    prepared = [prepare(Image.fromarray(image), INFO.preprocessing) for image in IMAGES]
    np.testing.assert_array_equal(explained.images, [image for image, _ in prepared])
    assert explained.preprocessing == tuple(done for _, done in prepared)
    assert explained.sources == ("image 0", str(tmp_path / "one.png"), "image 2", "image 3", "image 4")
    inputs = add_inverse(explained.images / np.float32(255))
    logits = MODEL.apply(network.variables, inputs)
    np.testing.assert_allclose(explained.logits, logits, rtol=1e-5)  # Sums in another order.
    np.testing.assert_allclose(explained.probabilities, 1 / (1 + np.exp(-logits)), rtol=1e-5)
    assert explained.contributions.shape == (5, 3, 6, 6, 6)
    np.testing.assert_allclose(explained.contribution_maps.sum((2, 3)) - 1, logits, rtol=1e-5)
    one = explain(network, IMAGES[0])
    assert one.contribution_maps.shape == (1, 1, 6, 6) and one.targets[0, 0] == np.argmax(logits[0])
    np.testing.assert_allclose(
        one.contribution_maps[0, 0], explained.contribution_maps[0, one.targets[0, 0]], rtol=1e-4
    )


def test_targets_are_names_or_numbers(network):
    for targets, numbers in (
        ("dog", [[1], [1]]),
        (["dog", "cat"], [[1], [0]]),
        ([["dog", "cat"], ["cat", "cat"]], [[1, 0], [0, 0]]),
        (np.array([2, 0]), [[2], [0]]),
        ("all", [[0, 1, 2]] * 2),
    ):
        np.testing.assert_array_equal(explain(network, IMAGES[:2], targets).targets, numbers)
    every = explain(network, IMAGES[:2], top=3)
    np.testing.assert_array_equal(every.targets, np.argsort(-every.logits, axis=-1))
    dog = every.for_classes("dog")
    np.testing.assert_array_equal(dog.targets, [[1], [1]])
    np.testing.assert_allclose(dog.contribution_maps.sum((1, 2, 3)) - 1, every.logits[:, 1], rtol=1e-5)


def test_chunks_change_nothing(network):
    targets = np.arange(5) % 3
    whole, chunked = explain(network, IMAGES, targets), explain(network, IMAGES, targets, chunk_size=2)
    np.testing.assert_allclose(chunked.contributions, whole.contributions, rtol=1e-4, atol=1e-7)


def test_the_callers_photograph_stays_large(network, tmp_path):
    Image.fromarray(np.zeros((640, 640, 3), np.uint8)).save(tmp_path / "large.jpg")
    with Image.open(tmp_path / "large.jpg") as image:
        explain(network, image)
        assert image.size == (640, 640)


def test_the_text(network):
    explained = explain(network, np.repeat(IMAGES, 3, axis=0), "dog")
    lines = repr(explained).splitlines()
    assert lines[0] == "image 0: cropped to the centre, 6×6 of 12×8 pixels"
    positive, negative = (np.clip(explained.contribution_maps[0], *at).sum() for at in ((0, None), (None, 0)))
    sum_ = f"{positive:.2f} - {-negative:.2f} - 1.00 = {positive + negative - 1:.2f}".replace("-", "−")
    assert lines[1] == f"  {explained.probabilities[0, 1]:6.1%}  dog  logit {sum_}"
    assert (len(lines), lines[-1]) == (21, "and 5 more images")
    assert "  a\N{REPLACEMENT CHARACTER}[31m  logit" in repr(explain(network, IMAGES[0], [2]))


def test_what_is_not_recognised(network, tmp_path, monkeypatch):
    logits = explain(network, IMAGES).logits.max(-1)
    # With this bias the logits of two images are below zero, and their probabilities below 50%.
    bias = MODEL.logit_bias - float(np.sort(logits)[1] + np.sort(logits)[2]) / 2
    changed = network._replace(model=MODEL.clone(logit_bias=bias))
    explained = explain(changed, IMAGES)
    expected = logits - MODEL.logit_bias + bias > 0
    np.testing.assert_array_equal(explained.recognised, expected)
    np.testing.assert_array_equal(explained.probabilities.max(-1) > 0.5, expected)
    assert expected.sum() == 3
    for index, call in enumerate(drawn(explained, monkeypatch)):
        assert (f"  {UNRECOGNISED}\n" in explained.describe(index)) != expected[index]
        assert call[-1] == ("" if expected[index] else UNRECOGNISED)
        assert explained.as_entries(index)["recognised"] is bool(expected[index])


def test_files(network, tmp_path):
    explained = explain(network, IMAGES[:2], [[1, 0], [2, 2]])
    explained.save(tmp_path / "new" / "two.npz")
    explained.save(tmp_path / "two.png")
    arrays = np.load(tmp_path / "new" / "two.npz")
    for name in ("images", "logits", "probabilities", "targets", "contributions", "contribution_maps", "logit_bias"):
        np.testing.assert_array_equal(arrays[name], getattr(explained, name))
    assert arrays["class_names"].tolist() == list(INFO.class_names)
    assert arrays["preprocessing"].tolist() == ["cropped to the centre, 6×6 of 12×8 pixels"] * 2
    picture = imread(tmp_path / "two.png")
    assert picture.shape == (2 * 4.4 * 150, (2.5 * 3 + 0.4) * 150, 4)


def drawn(explained, monkeypatch, **settings):
    """What is drawn of each image."""
    calls = []
    monkeypatch.setattr("coda_jax.plotting.maps.draw_explanation", lambda *arguments: calls.append(arguments[1:]))
    explained.show(**settings)
    return calls


def test_what_is_drawn(network, monkeypatch):
    explained = explain(network, IMAGES[:2], [[1, 0], [2, 2]])
    for index, (image, maps, names, logits, bias, _, pictures, overlaid, _) in enumerate(drawn(explained, monkeypatch)):
        np.testing.assert_array_equal(image, explained.images[index])
        np.testing.assert_array_equal(maps, explained.contribution_maps[index])
        assert names == [["dog", "cat"], ["a\x1b[31m"] * 2][index]
        np.testing.assert_array_equal(logits, explained.logits[index, explained.targets[index]])
        assert (bias, len(pictures), overlaid) == (-1, 0, True)


def test_colours_are_of_the_rows(network, monkeypatch):
    explained = explain(network, IMAGES[:1].clip(1, 254), [[1, 0]])  # Without black and white, to divide by.
    inputs = np.asarray(add_inverse(explained.images / np.float32(255)))[0]
    ((*_, pictures, _, _),) = drawn(explained, monkeypatch, style="colour")
    for picture, contributed in zip(pictures, explained.contributions[0], strict=True):
        np.testing.assert_allclose(
            picture, colour_explanation(inputs, contributed / inputs), atol=1e-4
        )  # float32 weights.


def test_a_hybrid(hybrid):
    explained = explain(hybrid, IMAGES[:2], "all")
    assert np.isfinite(explained.logits).all()
    assert explained.contribution_maps.shape == (2, 3, 6, 6) and explained.contributions.shape[2:4] != (6, 6)
    np.testing.assert_allclose(explained.contribution_maps.sum((2, 3)) - 1, explained.logits, rtol=1e-4)
    with pytest.raises(InputError, match="a hybrid's weights are of features and have no colour"):
        explained.show(style="colour")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": "dgits"}, "there is no run in dgits"),
        ({"network": Pretrained(MODEL, {}, None)}, "network says nothing of its classes and images"),
        ({"network": (ResNetTrunk(8, 2), {}, INFO)}, "network is a run of a ResNetTrunk"),
        ({"images": []}, "images must be one image or more"),
        ({"images": "none.png"}, "none.png: No such file"),
        ({"images": np.zeros((8, 8))}, r"images must have shape \[N, H, W, 3\]"),
        ({"images": np.zeros((8, 0, 3))}, r"images must have pixels, but have shape \[1, 8, 0, 3\]"),
        ({"images": np.full((8, 8, 3), 255.0)}, r"images must lie in \[0, 1\]"),
        ({"images": np.zeros((8, 8, 3), int)}, "divide 8-bit pixels by 255"),
        ({"targets": "dgo"}, "there is no class 'dgo': choose among cat, dog, a\N{REPLACEMENT CHARACTER}"),
        ({"targets": ["dog", "cat"]}, r"whole numbers of shape \[1\] or \[1, T\]"),
        ({"targets": [["dog"], ["cat", "dog"]]}, "targets"),
        ({"targets": [3]}, "target 3 is not a class"),
        ({"top": 4}, "top must be at most the number of classes, 3"),
        ({"chunk_size": 0}, "chunk_size must be at least 1"),
    ],
)
def test_refused(network, arguments, message):
    with pytest.raises(InputError, match=message):
        explain(**{"network": network, "images": IMAGES[0]} | arguments)


def test_files_that_are_refused(network, tmp_path):
    explained = explain(network, IMAGES[:1])
    (tmp_path / "a.npz").mkdir()
    for path, message in (("a.jpg", "must end with .png, for a picture, or .npz"), ("a.npz", "it is a directory")):
        with pytest.raises(InputError, match=message):
            explained.save(tmp_path / path)
    with pytest.raises(InputError, match="style is 'maps', but must be one of overlay, map, "):
        explained.show(style="maps")
    with pytest.raises(InputError, match="at most 100 maps can be drawn, not 3 of each of 40 images"):
        explain(network, np.repeat(IMAGES, 8, axis=0), "all").save(tmp_path / "many.png")
    Image.fromarray(IMAGES[0].repeat(8, 0)).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:-100])
    with Image.open(tmp_path / "cut.jpg") as image, pytest.raises(InputError, match="the image is damaged"):
        explain(network, image)


def test_an_image_of_one_colour_is_said_to_be_one(network):
    plain, other = np.full((8, 8, 3), 9, np.uint8), np.zeros((8, 8, 3), np.uint8)
    other[5, 5, 2] = 1
    cropped = "cropped to the centre, 6×6 of 8×8 pixels"
    caution = "all of one colour, so that there is nothing in it to recognise"
    assert explain(network, [plain, other]).preprocessing == ((cropped, caution), (cropped,))


class TestSize:
    def test_logits_of_a_larger_image_keep_their_scale(self, network):
        # Two by two copies of an image, whose layers have no padding, are four times as many equal sums, and edges.
        model = CoDANet(channels=(4, 3), ranks=(4, 2), kernel_sizes=(1, 1), strides=(1, 1), paddings=(0, 0))
        info = DatasetInfo(("cat", "dog", "bird"), Preprocessing(size=6, shorter_side=6))
        network = Pretrained(model, random_variables(model), info)
        image = IMAGES[0, :6, :6]
        once, tiled = explain(network, image, "all"), explain(network, np.tile(image, (2, 2, 1)), "all", size=12)
        np.testing.assert_allclose(tiled.logits, once.logits, rtol=1e-5)
        np.testing.assert_allclose(
            tiled.contribution_maps.sum((2, 3)) + tiled.logit_bias, tiled.logits, rtol=1e-5, atol=1e-5
        )
        assert tiled.preprocessing == (("contributions divided by 4, as the training's images had 6×6 pixels",),)
        assert explain(network, image, size=6).preprocessing == ((),)

    def test_the_crop_is_the_trainings(self, network):
        explained = explain(network, IMAGES[:1], size=3)
        assert explained.images.shape == (1, 3, 3, 3)
        assert explained.preprocessing[0][0] == "cropped to the centre, 6×6 of 12×8 pixels"

    def test_of_a_hybrid_the_head_is_scaled(self, hybrid):
        assert explain(hybrid, IMAGES[:1], size=12).network.model.head.temperature == 4.0

    def test_of_a_bcos_network_nothing_is_scaled(self):
        model = BcosResNet(blocks=(1,), num_classes=3, width=4, small_images=True)
        variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 6, 6, 6), np.float32))
        explained = explain((model, variables, INFO), IMAGES[:1], size=12)
        assert explained.network.model == model and len(explained.preprocessing[0]) == 2

    @pytest.mark.parametrize("size", [0, 2.5])
    def test_bad(self, network, size):
        with pytest.raises(InputError, match="size must be (at least 1|a whole number), not"):
            explain(network, IMAGES[:1], size=size)
