import numpy as np
import pytest
from matplotlib import colormaps, pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from skimage.color import deltaE_ciede2000, rgb2lab

from coda_jax import InputError
from coda_jax.plotting.maps import (
    _title_size,
    called,
    colour_explanation,
    colour_table,
    contribution_scale,
    contribution_sheet,
    draw_explanation,
    explained_frame,
    overlay,
    plot_map,
    shown,
)
from tests.plotting.hostile import HOSTILE


def test_scale_is_the_99_75th_percentile_of_the_absolute_values():
    assert contribution_scale(np.arange(-400, 1)) == 399
    assert contribution_scale(np.zeros((2, 2))) > 0


def test_a_map_is_drawn_into_the_axes():
    contributions = np.array([[4.0, -1.0], [0.0, 2.0]])
    axes = Figure().subplots()
    picture = plot_map(contributions, axes, scale=4.0)
    assert picture.axes is axes
    np.testing.assert_array_equal(picture.get_array(), contributions)
    red, pale_blue, white, _ = picture.to_rgba(contributions.ravel(), bytes=True)
    np.testing.assert_array_equal(red[:3], colour_table()[255])
    np.testing.assert_array_equal(pale_blue[:3], colour_table()[96])  # A quarter of the scale, below the middle.
    assert (white > 240).all()


def test_a_map_without_axes_makes_its_own():
    contributions = np.array([[3.0, -1.0]])
    picture = plot_map(contributions)
    assert picture.get_clim() == (-contribution_scale(contributions), contribution_scale(contributions))
    pyplot.close(picture.figure)


@pytest.mark.parametrize("shape", [(4,), (4, 4, 3)])
def test_more_or_less_than_a_map_is_refused(shape):
    with pytest.raises(InputError, match="contributions must be one map"):
        plot_map(np.zeros(shape))


def test_colour_explanation_by_hand():
    inputs = np.array([[[1, 0, 0, 0, 1, 1], [0, 0, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]]], float)
    weights = np.array([[[3, 0, 0, 1, 4, -5], [0, 0, 0, -1, 0, 0], [0, 2, 2, 0, 0, 1]]], float)
    found = colour_explanation(inputs, weights, smoothing=1, percentile=100)
    # Contributions 3 + 4 - 5 > 0, -1 < 0 and 4; norms √51, 1 and 3.
    expected = [[[0.75, 0, 0, 1], [0, 0, 0, 0], [0, 1, 2 / 3, 3 / np.sqrt(51)]]]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    smooth = colour_explanation(inputs, weights, smoothing=3, percentile=100)
    # Means with zeros around, relative to that of the middle: 51^½, 51^½ + 3, 3.
    np.testing.assert_allclose(smooth[0, :, 3], np.array([np.sqrt(51), np.sqrt(51) + 3, 3]) / (np.sqrt(51) + 3))
    # Half of the pixels are opaque.
    np.testing.assert_allclose(colour_explanation(inputs, weights, 1, 50)[0, :, 3], [1, 0, 1])


def test_colours_of_nothing_are_transparent():
    found = colour_explanation(np.ones((30, 40, 6)), np.zeros((30, 40, 6)))
    assert found.shape == (30, 40, 4) and not found.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": np.zeros((4, 4, 3))}, r"must be \[H, W, 6\], not \(4, 4, 6\) and \(4, 4, 3\)"),
        ({"inputs": np.zeros((1, 4, 4, 6))}, r"must be \[H, W, 6\]"),
        ({"smoothing": 2}, "smoothing must be odd, not 2"),
        ({"smoothing": 0}, "smoothing must be at least 1, not 0"),
    ],
)
def test_what_has_no_colours(changes, message):
    with pytest.raises(InputError, match=message):
        colour_explanation(**{"inputs": np.zeros((4, 4, 6)), "weights": np.zeros((4, 4, 6))} | changes)


@pytest.mark.parametrize(("examples", "targets"), [(1, 1), (4, 2), (12, 2)])
def test_sheet(tmp_path, examples, targets):
    rng = np.random.default_rng(0)
    contribution_sheet(
        tmp_path / "sheet.png",
        images=rng.random((examples, 8, 8, 3)),
        maps=rng.normal(size=(examples, targets, 8, 8)) * 10.0 ** np.arange(examples)[:, None, None, None],
        targets=np.tile(np.arange(targets), (examples, 1)),
        probabilities=rng.random((examples, targets)),
        labels=np.zeros(examples, int),
        class_names=["cat", "dog"],
    )
    picture = imread(tmp_path / "sheet.png")
    assert min(picture.shape[:2]) > 200
    # Maps of both signs are drawn in red and in blue.
    red, blue = picture[..., 0] - picture[..., 2] > 0.5, picture[..., 2] - picture[..., 0] > 0.3
    assert red.sum() > 50 and blue.sum() > 50


def test_what_is_written_over_and_under_the_maps(monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, dpi: figures.append(figure))
    images, maps = np.zeros((2, 4, 4, 3), np.uint8), np.arange(64.0).reshape(2, 2, 4, 4)
    targets, probabilities = np.array([[1, 0], [0, 1]]), np.array([[0.7, 0.2], [0.9, 0.1]])
    labels, names = np.array([0, 0]), ["cat", "3"]
    contribution_sheet("a.png", images, maps, targets, probabilities, labels, names, "attributions")
    (sheet,), one = figures, Figure()
    draw_explanation(one, images[0], maps[0], names, np.array([2.0, 1.0]), -1.0, "attributions", note="A note.")
    assert one.get_suptitle().startswith("A note.\nwhat speaks for")
    titled = [axis for axis in sheet.axes if axis.get_title()]
    bold = [(axis.get_title(), axis.title.get_weight() == "bold") for axis in titled]
    assert bold == [
        ("true: cat", False), ("class 3: 70%", False), ("cat: 20%", True),
        ("true: cat", False), ("cat: 90%", True), ("class 3: 10%", False),
    ]  # fmt: skip
    # Each image has a scale of its own.
    expected = overlay(images[1], maps[1, 1], contribution_scale(maps[1]))
    np.testing.assert_array_equal(titled[5].get_images()[0].get_array(), expected)
    assert sheet.get_suptitle().startswith("Images, and attributions to the logits: red speaks for the class")
    firsts = [axis.get_title().partition("\n")[0] for axis in one.axes[:3]]
    assert firsts == ["what the network sees", "cat: 88.1%", "class 3: 73.1%"]  # The sigmoids of 2 and 1.
    assert one.axes[-1].get_xlabel() == "attributions to the logit"


def test_a_name_without_letters_is_said_to_be_a_class():
    assert [called(name) for name in ("cat", "3", "7up", "-1.5", "猫", "")] == [
        "cat",
        "class 3",
        "7up",
        "class -1.5",
        "猫",
        "class ",
    ]


def test_names_as_they_are_shown():
    assert [shown(name) for name in ("cat", "$x$", "a\n b", "\x1b[31m\u202e\ud800", 33 * "x")] == [
        "cat",
        r"\$x\$",
        "a b",
        "\N{REPLACEMENT CHARACTER}[31m" + 2 * "\N{REPLACEMENT CHARACTER}",
        31 * "x" + "…",
    ]


@pytest.mark.parametrize("name", ["$x^2$", r"\$1\$", "$"])
def test_a_dollar_sign_is_drawn_as_one(name):
    figure = Figure()
    canvas = FigureCanvasAgg(figure)
    escaped, literal = figure.text(0, 0, shown(name)), figure.text(0, 0, name, parse_math=False)
    canvas.draw()
    assert escaped.get_window_extent().bounds == literal.get_window_extent().bounds


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_class_names(tmp_path, name):
    image, attributions = np.zeros((1, 8, 8, 3)), np.ones((1, 8, 8))
    contribution_sheet(
        tmp_path / "sheet.png",
        images=image,
        maps=attributions[None],
        targets=np.zeros((1, 1), int),
        probabilities=np.ones((1, 1)),
        labels=np.zeros(1, int),
        class_names=[name],
    )
    assert max(imread(tmp_path / "sheet.png").shape) < 1000


@pytest.mark.parametrize("overlaid", [False, True])
def test_explanation(tmp_path, overlaid):
    image = np.full((4, 4, 3), 127, np.uint8)
    maps = np.stack([np.full((4, 4), 1.0), np.full((4, 4), -1.0)])
    figure = Figure(figsize=(7.9, 4.1), layout="constrained")
    names, logits = ["cat", "a $dollar"], np.array([2.0, -30.0])
    draw_explanation(figure, image, maps, names, logits, offset=-14.0, overlaid=overlaid)
    figure.savefig(tmp_path / "one.png")
    picture = imread(tmp_path / "one.png")[..., :3]
    red, blue = picture[..., 0] - picture[..., 2] > 0.25, picture[..., 2] - picture[..., 0] > 0.25
    assert figure.axes[-1].get_xlabel() == "contributions to the logit"
    height, width = red.shape
    # The first map is the second of three panels, the other the third.
    assert (
        red[: height // 2, width // 3 : 2 * width // 3].mean() > 0.3 and red[: height // 2, 2 * width // 3 :].sum() == 0
    )
    assert blue[: height // 2, 2 * width // 3 :].mean() > 0.3


# Complete protanopia, deuteranopia and tritanopia in linear RGB: Machado, Oliveira and Fernandes, A physiologically-
# based model for simulation of color vision deficiency, 2009.
COLOUR_BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("kind", COLOUR_BLINDNESS)
def test_the_colour_blind_can_tell_for_from_against(kind):
    colours = colour_table()
    srgb = colours / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(COLOUR_BLINDNESS[kind]), 0, 1)
    lab = rgb2lab(np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055))
    different = deltaE_ciede2000(lab, lab[::-1])[128:]  # A contribution and its opposite, from weak to strong.
    # 2 is about the least difference that can be seen side by side; 10 is seen at a glance.
    assert different[16:].min() > 10  # From an eighth of the full colour on.
    lightness = lab[128:, 0]
    assert (np.diff(lightness) < 0.5).all() and lightness[0] - lightness[-1] > 50  # Strong is dark, for every eye.


def test_colour_table_by_hand():
    """White in the middle, red above, blue below."""
    table = colour_table()
    assert table.shape == (256, 3) and table.dtype == np.uint8
    assert (table[127:129] > 240).all()
    assert table[255, 0] > 2 * table[255, 2] and table[0, 2] > 2 * table[0, 0]


def test_long_titles_are_smaller():
    assert _title_size("true: cat") == 9
    # A bold letter is about 0.66 of its size wide, and a panel 108 points.
    assert 36 * 0.66 * _title_size(36 * "a") < 108


def test_a_frame_and_its_maps_side_by_side():
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


def test_a_frame_and_maps_over_it():
    image = np.array([[[10, 20, 30], [40, 50, 60]]], np.uint8)
    maps = np.array([[[0.0, 1.0]], [[-1.0, 0.5]]])
    frame = explained_frame(image, maps, ["cat 50%", "dog 9%"], scale=2.0, overlaid=True)
    assert frame.shape == (28 + 256, 3 * 512 + 2 * 8, 3)
    np.testing.assert_array_equal(frame[28, 520:1032:256], overlay(image, maps[0], 2.0)[0])
    np.testing.assert_array_equal(frame[28, 1040::256], overlay(image, maps[1], 2.0)[0])


def test_an_overlay_by_hand():
    image = np.array([[[255, 255, 255], [100, 0, 0], [0, 0, 0], [10, 20, 30]]], np.uint8)
    contributions = np.array([[0.0, 1.0, -9.0, 0.0]])
    red, blue = (255 * np.array(colormaps["RdBu_r"](place)[:3]) for place in (208, 47))
    found = overlay(image, contributions, scale=2.0)
    expected = [[232] * 3, (141.96 + red) / 2, blue, [130 + 0.4 * (2.99 + 11.74 + 3.42)] * 3]
    np.testing.assert_allclose(found, [expected], atol=0.501)  # Rounded.
    np.testing.assert_array_equal(overlay(image, contributions, 2.0, opacity=0), image)
    half = overlay(image, contributions, 2.0, opacity=0.5)
    np.testing.assert_allclose(half[0, 1], 0.75 * (np.array([50, 0, 0]) + 70.98) + 0.25 * red, atol=0.501)


def test_the_sides_of_a_frame_are_even():
    frame = explained_frame(np.zeros((257, 259, 3), np.uint8), np.zeros((1, 257, 259)), ["a"], scale=1.0)
    assert frame.shape == (286, 2 * 259 + 8, 3)
