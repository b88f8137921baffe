import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.image import imread

from coda_jax import InputError
from coda_jax.plotting import curves

RECORDS = [
    {"step": 1, "epoch": 0.5, "loss": 0.7, "accuracy": 0.2},
    {"step": 2, "epoch": 1.0, "loss": 0.5, "accuracy": 0.4},
    {"step": 2, "epoch": 1.0, "test_loss": 0.6, "test_accuracy": 0.3},
]


def test_learning_curves(tmp_path):
    curves.learning_curves(tmp_path / "curves.png", RECORDS)
    assert imread(tmp_path / "curves.png").shape[1] == 1350


def test_a_learning_curve_is_drawn_into_the_axes():
    axes = Figure().subplots()
    assert curves.plot_learning_curve(RECORDS, "accuracy", axes) is axes
    training, test = axes.get_lines()
    np.testing.assert_array_equal(training.get_xydata(), [[0.5, 0.2], [1.0, 0.4]])
    np.testing.assert_array_equal(test.get_xydata(), [[1.0, 0.3]])


def test_a_learning_curve_without_axes_makes_its_own():
    axes = curves.plot_learning_curve(RECORDS)
    assert axes.get_ylabel() == "binary cross-entropy, nats"
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), [0.7, 0.5])
    pyplot.close(axes.figure)


def test_another_quantity_is_refused():
    with pytest.raises(InputError, match="must be one of loss, accuracy"):
        curves.plot_learning_curve(RECORDS, "speed")
