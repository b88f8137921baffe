import dataclasses
import json

import jax
import numpy as np
import pytest

from coda_jax import InputError
from coda_jax.data import DatasetInfo, Preprocessing
from coda_jax.training import state
from coda_jax.training.checkpoints import Checkpoints
from coda_jax.training.run_directory import (
    check_same_run,
    load_config,
    load_dataset_info,
    load_run,
    save_config,
    save_dataset_info,
)
from tests.training.problem import MODEL, OPTIMIZER

CONFIG = {"seed": 0, "data_dir": "a", "model": {"channels": (1, 2), "norm": "sq"}}


def test_same_configuration_and_free_keys(tmp_path):
    check_same_run(tmp_path / "none", CONFIG, ())
    save_config(tmp_path / "run", CONFIG)
    check_same_run(
        tmp_path / "run", {**CONFIG, "data_dir": "b", "model": {"channels": [1, 2], "norm": "sq"}}, ("data_dir",)
    )


def test_differing_keys_are_named(tmp_path):
    save_config(tmp_path, CONFIG)
    message = r"data_dir is b \(there a\), extra is 1 \(there None\), model.norm is l2 \(there sq\); use the same"
    with pytest.raises(InputError, match=message):
        check_same_run(
            tmp_path, {**CONFIG, "data_dir": "b", "extra": 1, "model": {**CONFIG["model"], "norm": "l2"}}, ()
        )


def test_load_config(tmp_path):
    save_config(tmp_path, CONFIG)
    assert load_config(tmp_path) == {**CONFIG, "model": {"channels": [1, 2], "norm": "sq"}}


def test_load_run(tmp_path):
    attributes = {
        field.name: getattr(MODEL, field.name)
        for field in dataclasses.fields(MODEL)
        if field.name in ("channels", "ranks", "kernel_sizes", "strides", "paddings", "norm", "temperature")
    }
    save_config(tmp_path, {"model": attributes})
    first = state.create(MODEL, OPTIMIZER, (4, 4), seed=4)
    Checkpoints(tmp_path / "checkpoints").save(first)
    model, variables = load_run(tmp_path)
    assert model == MODEL
    jax.tree.map(np.testing.assert_array_equal, variables, {"params": first.params})


def test_no_run_and_no_checkpoint(tmp_path):
    with pytest.raises(InputError, match=f"there is no run in {tmp_path}"):
        load_run(tmp_path)
    save_config(
        tmp_path, {"model": {name: (1,) for name in ("channels", "ranks", "kernel_sizes", "strides", "paddings")}}
    )
    with pytest.raises(InputError, match="there is no checkpoint in .*: train first"):
        load_run(tmp_path)


INFO = DatasetInfo(("cat", "dog <b>"), Preprocessing(size=32, shorter_side=36))


def test_dataset_info_comes_back(tmp_path):
    save_dataset_info(tmp_path / "run", INFO)
    assert load_dataset_info(tmp_path / "run") == INFO


def test_dataset_info_that_is_missing_or_damaged(tmp_path):
    with pytest.raises(InputError, match="dataset.json is missing: give the command that trained the run once more"):
        load_dataset_info(tmp_path)
    save_dataset_info(tmp_path, INFO)
    good = json.loads((tmp_path / "dataset.json").read_text())
    for change in (
        {"class_names": "cat"},
        {"class_names": [1]},
        {"preprocessing": {"size": 32}},
        {"preprocessing": {"size": 32, "shorter_side": 31}},
        {"preprocessing": {"size": "32", "shorter_side": 32}},
    ):
        (tmp_path / "dataset.json").write_text(json.dumps(good | change))
        with pytest.raises(InputError, match="dataset.json is damaged"):
            load_dataset_info(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(InputError, match="dataset.json is damaged"):
        load_dataset_info(tmp_path)
