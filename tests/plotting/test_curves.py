import numpy as np
import pytest
from matplotlib.image import imread

from coda_jax.plotting import curves


def written(path, texts=()):
    """Check that both files are there, that the picture is not empty, and that the drawing holds the texts."""
    picture = imread(path.with_suffix(".png"))
    assert min(picture.shape[:2]) > 200
    assert picture[..., :3].std() > 0.05
    drawing = path.with_suffix(".svg").read_text()
    for text in texts:
        assert f"<!-- {text} -->" in drawing  # Matplotlib draws letters as paths, and names them in comments.
    return drawing


def test_learning_curves(tmp_path):
    records = [
        {"step": 1, "epoch": 0.5, "loss": 0.7, "accuracy": 0.2},
        {"step": 2, "epoch": 1.0, "loss": 0.5, "accuracy": 0.4},
        {"step": 2, "epoch": 1.0, "test_loss": 0.6, "test_accuracy": 0.3},
    ]
    curves.learning_curves(tmp_path / "curves.png", records)
    assert imread(tmp_path / "curves.png").shape[1] == 1350


@pytest.mark.parametrize("methods", [1, 12])
def test_localisation_boxes(tmp_path, methods):
    rng = np.random.default_rng(0)
    scores = {f"method {index}": rng.random((5, 9)) for index in range(methods)}
    curves.localisation_boxes(tmp_path / "boxes", scores, cells=9)
    written(tmp_path / "boxes", [*scores, "uniform (1/9)", "oracle"])


def test_the_boxes_are_where_the_scores_are(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(curves, "save", lambda figure, path: figures.append(figure))
    curves.localisation_boxes(tmp_path, {"one": np.linspace(0.2, 0.6, 101).reshape(1, 101)}, cells=4)
    lines = {tuple(np.round(line.get_ydata(), 6)) for line in figures[0].axes[0].get_lines()}
    assert (0.4, 0.4) in lines and (0.4,) in lines  # Median and mean.
    assert (0.25, 0.25) in lines and (1, 1) in lines  # Uniform and oracle.
    assert (0.3, 0.22) in lines and (0.5, 0.58) in lines  # Whiskers from the quartiles to the 5th and 95th percentile.


def test_removal_curves(tmp_path):
    ours, other = np.array([0.9, 0.8, 0.7]), np.array([0.9, 0.5, 0.1])
    both = {"least": {"ours": ours, "other": other}, "most": {"ours": other, "other": ours}}
    curves.removal_curves(tmp_path / "removal", both, fraction=0.25)
    written(tmp_path / "removal", ["ours", "other", "least important first", "most important first", "25%"])


def test_removal_curves_are_drawn_against_the_share_of_pixels(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(curves, "save", lambda figure, path: figures.append(figure))
    curves.removal_curves(tmp_path, {"least": {"ours": np.array([0.9, 0.8, 0.7])}}, fraction=0.5)
    (line,) = figures[0].axes[0].get_lines()
    np.testing.assert_array_equal(line.get_xydata(), [[0, 0.9], [0.25, 0.8], [0.5, 0.7]])


def test_similarity_curves_begin_at_the_trained_network(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(curves, "save", lambda figure, path: figures.append(figure))
    curves.similarity_curves(tmp_path, ["layers_1", "layers_0"], {"ours": [0.5, 0.25]})
    axis = figures[0].axes[0]
    np.testing.assert_array_equal(axis.get_lines()[0].get_ydata(), [1, 0.5, 0.25])
    assert [label.get_text() for label in axis.get_xticklabels()] == ["trained", "layers_1", "layers_0"]


def test_by_temperature(tmp_path):
    rng = np.random.default_rng(0)
    curves.localisation_by_temperature(tmp_path / "boxes", [10.0, 1000.0], [rng.random((5, 4))] * 2, cells=4)
    written(tmp_path / "boxes", ["10", "1000", "temperature T", "uniform (1/4)"])
    logits = [rng.random((5, 4))] * 2  # All in one unit, of 20 images.
    curves.localisation_by_logit(tmp_path / "logits", [10.0, 1000.0], logits, logits, cells=4)
    written(
        tmp_path / "logits", ["T = 10", "T = 1000", "logit of the image alone, means over one unit", "uniform (1/4)"]
    )
    curves.metric_by_temperature(tmp_path / "lines", [10.0, 1000.0], {"ours": [0.3, 0.9]}, "mean localisation")
    written(tmp_path / "lines", ["10", "1000", "mean localisation", "ours"])


def test_by_network(tmp_path):
    curves.metrics_by_network(tmp_path / "lines", ["one", "other"], {"accuracy": [0.9, 0.8], "localisation": [0.1, 1]})
    written(tmp_path / "lines", ["one", "other", "accuracy", "localisation"])


def test_means_by_unit():
    positions = np.array([*[-0.5] * 10, *[0.0] * 9, *[2.1, 2.9] * 5])
    values = np.array([*[0.2] * 10, *[1.0] * 9, *[0.0, 1.0] * 5])
    middles, means = curves._means_by_unit(positions, values)
    assert middles == [-0.5, 2.5]  # Nine images are too few.
    np.testing.assert_allclose(means, [0.2, 0.5], rtol=1e-12)


def test_lines_can_be_told_apart():
    styles = curves._styles(12)
    assert len({(style["color"], style["linestyle"]) for style in styles}) == 12
