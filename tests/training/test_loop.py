import jax
import numpy as np
import pytest

from coda_jax import InputError
from coda_jax.training.loop import train
from coda_jax.training.metrics_log import read_metrics
from tests.training.problem import DATASET, MODEL, OPTIMIZER

SETTINGS = {
    "batch_size": 8,
    "num_steps": 30,
    "seed": 0,
    "flip": True,
    "crop_padding": 1,
    "num_workers": 0,
    "log_every": 10,
    "checkpoint_every": 12,
}


def run(workdir, model=MODEL, **changes):
    return train(model, OPTIMIZER, DATASET, workdir=workdir, **(SETTINGS | changes))


def test_learns_and_records(tmp_path):
    state = run(tmp_path, num_steps=60)
    assert int(state.step) == 60
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [record["step"] for record in records if "loss" in record] == [10, 20, 30, 40, 50, 60]
    # 50 examples: epochs end with steps 7, 13, 19, 25, ...; the last evaluation is of the last step.
    tests = [record for record in records if "test_loss" in record]
    assert [record["step"] for record in tests] == [7, 13, 19, 25, 32, 38, 44, 50, 57, 60]
    assert tests[-1]["test_accuracy"] > 0.9 > 0.7 > tests[0]["test_accuracy"] - 0.3
    assert records[-1]["epoch"] == 60 * 8 / 50


def test_interrupted_and_resumed_run_ends_with_the_same_bits(tmp_path):
    whole = run(tmp_path / "whole")
    run(tmp_path / "parts", num_steps=17)  # In the middle of an epoch, and not where a checkpoint is due.
    resumed = run(tmp_path / "parts")
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)
    last = [read_metrics(tmp_path / name / "metrics.jsonl")[-1] for name in ("whole", "parts")]
    assert last[0] == last[1]


def test_finished_run_is_left_as_it_is(tmp_path):
    state = run(tmp_path)
    before = (tmp_path / "metrics.jsonl").read_text()
    jax.tree.map(np.testing.assert_array_equal, run(tmp_path), state)
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_other_number_of_classes(tmp_path):
    with pytest.raises(InputError, match="the last of channels is 3, but the data has 2 classes"):
        run(tmp_path, model=MODEL.clone(channels=(6, 3)))
    assert list(tmp_path.iterdir()) == []


def test_batch_size_that_the_devices_cannot_share(tmp_path):
    with pytest.raises(InputError, match="batch_size is 0"):
        run(tmp_path, batch_size=0)
