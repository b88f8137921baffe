from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.image import imread

from experiments import plots
from tests.plotting.hostile import HOSTILE


def written(path, texts=()):
    """Check that both files are there, that the picture is not empty, and that the drawing holds the texts."""
    picture = imread(path.with_suffix(".png"))
    assert min(picture.shape[:2]) > 200
    assert picture[..., :3].std() > 0.05
    drawing = path.with_suffix(".svg").read_text()
    for text in texts:
        assert f"<!-- {text} -->" in drawing  # Matplotlib draws letters as paths, and names them in comments.
    return drawing


@pytest.mark.parametrize("methods", [1, 12])
def test_localisation_boxes(tmp_path, methods):
    rng = np.random.default_rng(0)
    scores = {f"method {index}": rng.random((5, 9)) for index in range(methods)}
    plots.localisation_boxes(tmp_path / "boxes", scores, cells=9)
    written(tmp_path / "boxes", [*scores, "uniform (1/9)", "oracle"])


def test_the_boxes_are_where_the_scores_are(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    plots.localisation_boxes(tmp_path, {"one": np.linspace(0.2, 0.6, 101).reshape(1, 101)}, cells=4)
    lines = {tuple(np.round(line.get_ydata(), 6)) for line in figures[0].axes[0].get_lines()}
    assert (0.4, 0.4) in lines and (0.4,) in lines  # Median and mean.
    assert (0.25, 0.25) in lines and (1, 1) in lines  # Uniform and oracle.
    assert (0.3, 0.22) in lines and (0.5, 0.58) in lines  # Whiskers from the quartiles to the 5th and 95th percentile.


def test_removal_curves(tmp_path):
    ours, other = np.array([0.9, 0.8, 0.7]), np.array([0.9, 0.5, 0.1])
    both = {"least": {"ours": ours, "other": other}, "most": {"ours": other, "other": ours}}
    plots.removal_curves(tmp_path / "removal", both, fraction=0.25)
    written(tmp_path / "removal", ["ours", "other", "least important first", "most important first", "25%"])


def test_removal_curves_are_drawn_against_the_share_of_pixels(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    plots.removal_curves(tmp_path, {"least": {"ours": np.array([0.9, 0.8, 0.7])}}, fraction=0.5)
    (line,) = figures[0].axes[0].get_lines()
    np.testing.assert_array_equal(line.get_xydata(), [[0, 0.9], [0.25, 0.8], [0.5, 0.7]])


def test_similarity_curves_begin_at_the_trained_network(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    plots.similarity_curves(tmp_path, ["layers_1", "layers_0"], {"ours": [0.5, 0.25]})
    axis = figures[0].axes[0]
    np.testing.assert_array_equal(axis.get_lines()[0].get_ydata(), [1, 0.5, 0.25])
    assert [label.get_text() for label in axis.get_xticklabels()] == ["trained", "layers_1", "layers_0"]


def test_by_temperature(tmp_path):
    rng = np.random.default_rng(0)
    plots.localisation_by_temperature(tmp_path / "boxes", [10.0, 1000.0], [rng.random((5, 4))] * 2, cells=4)
    written(tmp_path / "boxes", ["10", "1000", "temperature T", "uniform (1/4)"])
    logits = [rng.random((5, 4))] * 2  # All in one unit, of 20 images.
    plots.localisation_by_logit(tmp_path / "logits", [10.0, 1000.0], logits, logits, cells=4)
    written(
        tmp_path / "logits", ["T = 10", "T = 1000", "logit of the image alone, means over one unit", "uniform (1/4)"]
    )
    plots.metric_by_temperature(tmp_path / "lines", [10.0, 1000.0], {"ours": [0.3, 0.9]}, "mean localisation")
    written(tmp_path / "lines", ["10", "1000", "mean localisation", "ours"])


def test_no_temperature_stands_out(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    values = [np.full((5, 4), 0.5)] * 2
    plots.localisation_by_logit(tmp_path, [10.0, 1000.0], values, values, cells=4)
    plots.metric_by_temperature(tmp_path, [10.0, 1000.0], {"ours": [0.3, 0.9], "other": [0.2, 0.1]}, "mean")
    by_logit, by_method = ([line.get_linewidth() for line in figure.axes[0].get_lines()] for figure in figures)
    assert by_logit[:2] == [1.5, 1.5]
    assert by_method == [2.5, 1.5]  # The network's own contributions do.


def test_by_network(tmp_path):
    plots.metrics_by_network(tmp_path / "lines", ["one", "other"], {"accuracy": [0.9, 0.8], "localisation": [0.1, 1]})
    written(tmp_path / "lines", ["one", "other", "accuracy", "localisation"])


def test_means_by_unit():
    positions = np.array([*[-0.5] * 10, *[0.0] * 9, *[2.1, 2.9] * 5])
    values = np.array([*[0.2] * 10, *[1.0] * 9, *[0.0, 1.0] * 5])
    middles, means = plots._means_by_unit(positions, values)
    assert middles == [-0.5, 2.5]  # Nine images are too few.
    np.testing.assert_allclose(means, [0.2, 0.5], rtol=1e-12)


def test_lines_can_be_told_apart():
    styles = plots._styles(12)
    assert len({(style["color"], style["linestyle"]) for style in styles}) == 12


def red_and_blue(path):
    """The numbers of pixels of a picture in either colour."""
    picture = imread(path)
    return (picture[..., 0] - picture[..., 2] > 0.2).sum(), (picture[..., 2] - picture[..., 0] > 0.2).sum()


def test_attribution_sheet_scales_every_map_by_itself(tmp_path):
    rng = np.random.default_rng(0)
    images = np.full((2, 8, 8, 3), 0.5)
    maps = {"large": 1e6 * rng.normal(size=(2, 8, 8)), "small": 1e-6 * np.ones((2, 8, 8))}
    plots.attribution_sheet(tmp_path / "sheet", images, maps, ["cat", "dog"])
    red, blue = red_and_blue(tmp_path / "sheet.png")
    # The small map is all red at the end of its scale, half of what is coloured of the large one is red.
    assert red > blue > 1000
    drawing = (tmp_path / "sheet.svg").read_text()
    assert all(f"<!-- {text} -->" in drawing for text in ("large", "small", "cat", "dog"))


def test_attribution_sheet_breaks_long_titles(tmp_path):
    maps = {"contributions\nof hybrid after 3 of 3 blocks of ResNet-8": np.ones((1, 8, 8))}
    plots.attribution_sheet(tmp_path / "sheet", np.zeros((1, 8, 8, 3)), maps, ["cat"])
    drawing = (tmp_path / "sheet.svg").read_text()
    assert all(
        f"<!-- {line} -->" in drawing for line in ("contributions", "of hybrid after 3 of 3", "blocks of ResNet-8")
    )


def test_layer_sheet_names_every_sum(tmp_path):
    maps = [np.ones((4, 4)), -np.ones((2, 2))]
    plots.layer_sheet(
        tmp_path / "layers", np.zeros((8, 8, 3)), maps, ["input of layer 0", "input of the head"], "cat", 9.8, -2.2
    )
    red, blue = red_and_blue(tmp_path / "layers.png")
    assert red > 1000 and blue > 1000
    drawing = (tmp_path / "layers.svg").read_text()
    assert "<!-- sum 16.000 -->" in drawing and "<!-- sum -4.000 -->" in drawing
    assert "<!-- input of the head, 2×2 -->" in drawing
    assert "<!-- Contributions to “cat”, logit 9.800 -->" in drawing


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_class_names(tmp_path, name):
    image, attributions = np.zeros((1, 8, 8, 3)), np.ones((1, 8, 8))
    plots.attribution_sheet(tmp_path / "methods", image, {"one": attributions}, [name])
    plots.layer_sheet(tmp_path / "layers", image[0], [attributions[0]], ["input"], name, 0.0, 0.0)
    for file in ("methods", "layers"):
        assert max(imread(tmp_path / f"{file}.png").shape) < 1000
        elements = ElementTree.parse(tmp_path / f"{file}.svg").iter()
        assert not any(element.tag.endswith("script") for element in elements)
