"""A network is published with the numbers that were measured, and with none where nothing was."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from coda_jax import data, from_pretrained, load
from coda_jax.networks.architectures import make_model
from coda_jax.networks.config_file import load_config, save_config
from coda_jax.training.checkpoints import Checkpoints
from coda_jax.training.evaluation import classify
from coda_jax.training.state import TrainState
from experiments.configs import digits
from tests.experiments.processes import run, run_quickly
from tests.parameters import random_variables

STEP = 1234
# By file, what it was measured of and the results.
RECORDS = {
    "accuracy.json": ({}, {"accuracy": 0.9876, "images": 360}),
    "localisation_3x3-3/contributions.json": ({"grids": 3}, {"mean": 0.9, "median": 0.9}),
    "localisation_3x3-20/contributions.json": ({"grids": 20}, {"mean": 0.5432, "median": 0.4321}),
    "pixel_removal-99/contributions.json": (
        {"images": 99},
        {
            "least": {"curve": [0.8761, 0.7], "after_5_percent": 0.7654, "after_25_percent": 0.7},
            "most": {"curve": [0.8761, 0.1], "after_5_percent": 0.2109, "after_25_percent": 0.1098},
        },
    ),
}


@pytest.fixture
def measured(tmp_path):
    """The directory of a run on digits, with another learning rate than is usual, and of what was measured of it."""
    workdir = tmp_path / "run"
    config = {**digits.get_config().to_dict(), "learning_rate": 0.005}
    save_config(workdir, config, data.load("digits").info)
    params = jax.tree.map(jnp.asarray, random_variables(make_model(config["model"]))["params"])
    Checkpoints(workdir / "checkpoints").save(TrainState(jnp.int32(STEP), params, optax.EmptyState()))
    about_run = {"model": config["model"], "dataset": "digits", "step": STEP}
    for name, (settings, results) in RECORDS.items():
        path = workdir / "interpretability" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"produced_by": {"metric": settings, "run": about_run}, "results": results}
        path.write_text(json.dumps({**record, "versions": {"jax": "0.9.9"}, "device": "abacus"}))
    return workdir


def test_the_network_and_its_card(measured, tmp_path):
    status, out, err = run(f"--workdir={measured}", "--name=small", f"--out={tmp_path}", experiment="publish")
    assert status == 0, err
    assert out == f"{tmp_path / 'small'}: 0.4 MB, test accuracy 98.76%\n"
    model, variables, info = from_pretrained(tmp_path / "small")
    jax.tree.map(np.testing.assert_array_equal, variables, load(measured).variables)
    assert (model.temperature, info) == (10.0, data.load("digits").info)
    config, _ = load_config(tmp_path / "small")
    assert config.keys() == {"dataset", "image_size", "model", "weights_sha256"} and config["dataset"] == "digits"
    card = (tmp_path / "small" / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    for row in (
        "| test accuracy | 98.76% | 360 test images |",
        "| localisation 3×3, mean / median | 0.543 / 0.432 | 20 grids; 1 is perfect, 0.111 chance |",
        "| p(true class) of whole images | 0.876 | 99 test images |",
        "| after 5% / 25% least important pixels removed | 0.765 / 0.700 | the same |",
        "| after 5% / 25% most important pixels removed | 0.211 / 0.110 | the same |",
        "python -m experiments.job --config=experiments/configs/digits.py --config.learning_rate=0.005 --workdir=RUN",
        "model.ranks = [16, 16, 16]",
        "--methods=contributions --grids=20 --images=99",
        "Measured with jax 0.9.9 (abacus)",
        "The data: CC BY 4.0.",
    ):
        assert row in card
    assert str(tmp_path) not in card
    assert "BEFORE" not in card and "float32" not in card.partition("whole configuration")[0]


def test_parameters_rounded_to_float16(measured, tmp_path):
    status, out, err = run_quickly(
        f"--workdir={measured}", "--name=small", f"--out={tmp_path}", "--float16", experiment="publish"
    )
    assert status == 0, err
    model, variables, _ = from_pretrained(tmp_path / "small")
    rounded = jax.tree.map(lambda array: np.float32(np.float16(array)), load(measured).variables)
    jax.tree.map(np.testing.assert_array_equal, variables, rounded)
    logits, labels = classify(model, variables, data.load("digits").test)
    accuracy = np.mean(logits.argmax(-1) == labels)
    assert out == f"{tmp_path / 'small'}: 0.2 MB, test accuracy {accuracy:.2%}\n"
    card = (tmp_path / "small" / "README.md").read_text()
    assert f"| test accuracy | {accuracy:.2%} | 360 test images |" in card and "rounded to float16" in card


def test_the_card_of_a_network_that_began_with_another(measured, tmp_path):
    before = tmp_path / "before"
    config = digits.get_config().to_dict()
    save_config(before, config, data.load("digits").info)
    config = config | {"init": str(before), "model": config["model"] | {"dtype": "bfloat16", "temperature": 20.0}}
    save_config(measured, config, data.load("digits").info)
    for path in (measured / "interpretability").rglob("*.json"):
        record = json.loads(path.read_text())
        record["produced_by"]["run"]["model"] = config["model"]
        path.write_text(json.dumps(record))
    status, _, err = run(f"--workdir={measured}", "--name=small", f"--out={tmp_path}", experiment="publish")
    assert status == 0, err
    assert from_pretrained(tmp_path / "small")[0].dtype == "float32"
    card = (tmp_path / "small" / "README.md").read_text()
    job = "python -m experiments.job --config=experiments/configs/digits.py"
    changes = "--config.init=RUN-BEFORE --config.model.dtype=bfloat16 --config.model.temperature=20.0 --workdir=RUN"
    assert f"```sh\n{job} --workdir=RUN-BEFORE\n{job} {changes}\n```" in card
    assert "They come in float32, in which all was measured. The whole configuration:" in card
    assert "init = RUN-BEFORE" in card and str(tmp_path) not in card


def test_a_b_cos_network_and_its_card(measured, tmp_path):
    config = json.loads((measured / "config.json").read_text())
    config["model"] = {
        "architecture": "bcos_resnet",
        "blocks": [1],
        "num_classes": 10,
        "width": 4,
        "small_images": True,
    }
    (measured / "config.json").write_text(json.dumps(config))
    variables = jax.tree.map(jnp.asarray, random_variables(make_model(config["model"])))
    shutil.rmtree(measured / "checkpoints")
    Checkpoints(measured / "checkpoints").save(
        TrainState(jnp.int32(STEP), variables["params"], optax.EmptyState(), variables["batch_stats"])
    )
    for path in (measured / "interpretability").rglob("*.json"):
        record = json.loads(path.read_text())
        record["produced_by"]["run"]["model"] = config["model"]
        path.write_text(json.dumps(record))
    status, _, err = run_quickly(f"--workdir={measured}", "--name=small", f"--out={tmp_path}", experiment="publish")
    assert status == 0, err
    jax.tree.map(np.testing.assert_array_equal, from_pretrained(tmp_path / "small").variables, variables)
    card = (tmp_path / "small" / "README.md").read_text()
    # 3×3 layers 6 → 4 → 4 → 4 with four norms each, and ten classes.
    assert "A B-cos ResNet-4 of 556 parameters, for grey images" in card and "coda-net" not in card.lower()


def test_a_network_whose_beginning_is_gone(measured, tmp_path):
    config = json.loads((measured / "config.json").read_text()) | {"init": str(tmp_path / "gone")}
    (measured / "config.json").write_text(json.dumps(config))
    arguments = (f"--workdir={measured}", "--name=small", f"--out={tmp_path / 'out'}")
    status, _, err = run_quickly(*arguments, experiment="publish")
    assert status == 1 and err.startswith(f"error: no network '{tmp_path / 'gone'}' comes with coda_jax: there are ")
    assert not (tmp_path / "out").exists()


def change(path):
    record = json.loads(path.read_text())
    record["produced_by"]["run"]["step"] -= 1
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda measured: (measured / "accuracy.json").unlink(),
            "run has not been measured, as it has no interpretabi",
        ),
        (
            lambda measured: change(measured / "accuracy.json"),
            "accuracy.json was measured of another network, or before",
        ),
        (
            lambda measured: (measured / "localisation_3x3-20" / "contributions.json").write_text("{}"),
            "localisation_3x3-20/contributions.json is damaged ('produced_by'): delete it, and first python -m ",
        ),
    ],
)
def test_what_was_not_measured_is_not_published(measured, tmp_path, spoil, message):
    spoil(measured / "interpretability")
    status, out, err = run_quickly(
        f"--workdir={measured}", "--name=small", f"--out={tmp_path / 'out'}", experiment="publish"
    )
    assert (status, out, err.count("\n")) == (1, "", 1) and message in err
    assert not (tmp_path / "out").exists()
