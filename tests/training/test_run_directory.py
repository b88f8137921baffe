import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from coda_jax import InputError
from coda_jax.data import DatasetInfo, Preprocessing
from coda_jax.training import state
from coda_jax.training.checkpoints import Checkpoints
from coda_jax.training.run_directory import (
    check_same_classes,
    check_same_run,
    load_config,
    load_dataset,
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


def test_keys_that_runs_had_not_yet(tmp_path):
    save_config(tmp_path, CONFIG)
    check_same_run(tmp_path, {**CONFIG, "added": 1}, (), {"added": 1})
    with pytest.raises(InputError, match=r"added is 2 \(there 1\)"):
        check_same_run(tmp_path, {**CONFIG, "added": 2}, (), {"added": 1})


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


def test_a_run_stays_with_its_classes(tmp_path):
    check_same_classes(tmp_path / "none", ("cat",))
    save_dataset_info(tmp_path, INFO)
    check_same_classes(tmp_path, INFO.class_names)
    for names, words in (
        (("cat", "dog <b>", "owl"), r"new: owl; gone: none\): put the data back as it was"),
        (("cat", "owl\n"), r"new: owl; gone: dog <b>\)"),
        (("dog <b>", "cat"), r"new: none; gone: none\)"),  # In another order.
    ):
        with pytest.raises(InputError, match=f"{tmp_path} holds a run on other classes than the data has now .{words}"):
            check_same_classes(tmp_path, names)
    (tmp_path / "dataset.json").write_text("{")  # It is written anew by the run that goes on.
    check_same_classes(tmp_path, ("owl",))


def test_the_data_of_a_run(tmp_path):
    for name in ("there/cat", "there/dog"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(2):
            Image.new("L", (9, 9)).save(tmp_path / name / f"{number}.png")
    run, there, elsewhere = tmp_path / "run", tmp_path / "there", tmp_path / "elsewhere"
    save_config(run, {"dataset": "image_folder", "data_dir": str(there), "image_size": 4, "model": {}})
    dataset = load_dataset(run)
    save_dataset_info(run, dataset.info)
    assert dataset.info == DatasetInfo(("cat", "dog"), Preprocessing(4, 4))
    there.rename(elsewhere)
    with pytest.raises(InputError, match=f"data_dir is {there}, but there is no such folder"):
        load_dataset(run)
    assert load_dataset(run, str(elsewhere)).info == dataset.info
    (elsewhere / "cat").rename(elsewhere / "tomcat")
    with pytest.raises(InputError, match="holds a run on other classes .*new: tomcat; gone: cat"):
        load_dataset(run, str(elsewhere))
    save_config(run, {"dataset": "digits", "model": {}})  # As versions before image_size wrote it.
    with pytest.raises(InputError, match="holds a run on other classes .*new: 0, 1, 2, 3, "):
        load_dataset(run)
