import pytest
from PIL import Image

from coda_jax import InputError
from coda_jax.data import DatasetInfo, Preprocessing
from coda_jax.networks.config_file import save_config
from coda_jax.training.run_directory import check_same_classes, check_same_run, load_dataset

CONFIG = {"seed": 0, "data_dir": "a", "model": {"channels": (1, 2), "norm": "sq"}}
INFO = DatasetInfo(("cat", "dog <b>"), Preprocessing(size=32, shorter_side=36))


def test_same_configuration_and_free_keys(tmp_path):
    check_same_run(tmp_path / "none", CONFIG, ())
    save_config(tmp_path / "run", CONFIG, INFO)
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


def test_a_run_stays_with_its_classes(tmp_path):
    check_same_classes(tmp_path / "none", ("cat",))
    save_config(tmp_path, CONFIG)
    check_same_classes(tmp_path, ("cat",))  # What the classes were is not known.
    save_config(tmp_path, CONFIG, INFO)
    check_same_classes(tmp_path, INFO.class_names)
    for names, words in (
        (("cat", "dog <b>", "owl"), r"new: owl; gone: none\): put the data back as it was"),
        (("cat", "owl\n"), r"new: owl; gone: dog <b>\)"),
        (("dog <b>", "cat"), r"new: none; gone: none\)"),  # In another order.
    ):
        with pytest.raises(InputError, match=f"{tmp_path} holds a run on other classes than the data has now .{words}"):
            check_same_classes(tmp_path, names)


def test_the_data_of_a_run(tmp_path):
    for name in ("there/cat", "there/dog"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(2):
            Image.new("L", (9, 9)).save(tmp_path / name / f"{number}.png")
    run, there, elsewhere = tmp_path / "run", tmp_path / "there", tmp_path / "elsewhere"
    config = {"dataset": "image_folder", "data_dir": str(there), "image_size": 4, "model": {}}
    save_config(run, config)
    dataset = load_dataset(run)
    save_config(run, config, dataset.info)
    assert dataset.info == DatasetInfo(("cat", "dog"), Preprocessing(4, 4))
    there.rename(elsewhere)
    with pytest.raises(InputError, match=f"data_dir is {there}, but there is no such folder"):
        load_dataset(run)
    assert load_dataset(run, str(elsewhere)).info == dataset.info
    (elsewhere / "cat").rename(elsewhere / "tomcat")
    with pytest.raises(InputError, match="holds a run on other classes .*new: tomcat; gone: cat"):
        load_dataset(run, str(elsewhere))
    save_config(run, {"model": {}}, dataset.info)
    with pytest.raises(InputError, match="run says nothing of its data, as its config.json has no dataset"):
        load_dataset(run, str(elsewhere))
    save_config(run, {"dataset": "digits", "model": {}}, dataset.info)  # As versions before image_size wrote it.
    with pytest.raises(InputError, match="holds a run on other classes .*new: 0, 1, 2, 3, "):
        load_dataset(run)
