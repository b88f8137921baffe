import numpy as np
import pytest
from matplotlib.image import imread

from coda_jax.plotting import contribution_scale, contribution_sheet, learning_curves


def test_scale_is_the_99_75th_percentile_of_the_absolute_values():
    assert contribution_scale(np.arange(-400, 1)) == 399
    assert contribution_scale(np.zeros((2, 2))) > 0


@pytest.mark.parametrize(("examples", "targets"), [(1, 1), (4, 2), (12, 2)])
def test_sheet(tmp_path, examples, targets):
    rng = np.random.default_rng(0)
    contribution_sheet(
        tmp_path / "sheet.png",
        images=rng.random((examples, 8, 8, 3)),
        maps=rng.normal(size=(examples, targets, 8, 8)),
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


def test_learning_curves(tmp_path):
    records = [
        {"step": 1, "epoch": 0.5, "loss": 0.7, "accuracy": 0.2},
        {"step": 2, "epoch": 1.0, "loss": 0.5, "accuracy": 0.4},
        {"step": 2, "epoch": 1.0, "test_loss": 0.6, "test_accuracy": 0.3},
    ]
    learning_curves(tmp_path / "curves.png", records)
    assert imread(tmp_path / "curves.png").shape[1] == 1350
