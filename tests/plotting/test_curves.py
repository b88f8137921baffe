from matplotlib.image import imread

from coda_jax.plotting import curves


def test_learning_curves(tmp_path):
    records = [
        {"step": 1, "epoch": 0.5, "loss": 0.7, "accuracy": 0.2},
        {"step": 2, "epoch": 1.0, "loss": 0.5, "accuracy": 0.4},
        {"step": 2, "epoch": 1.0, "test_loss": 0.6, "test_accuracy": 0.3},
    ]
    curves.learning_curves(tmp_path / "curves.png", records)
    assert imread(tmp_path / "curves.png").shape[1] == 1350
