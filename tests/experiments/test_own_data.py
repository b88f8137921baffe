"""docs/tutorials/own-data.md from start to end, with fewer steps, smaller images and a smaller network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.image import imread

from coda_jax import load
from coda_jax.training.metrics_log import read_metrics
from experiments import measurements
from tests.experiments.processes import ROOT

SHORT = ["--config.num_steps=3", "--config.image_size=16", "--config.model.channels=(4,0)"]
SHORT += [f"--config.model.{name}" for name in ("ranks=(2,2)", "kernel_sizes=(4,1)", "strides=(2,1)", "paddings=(1,0)")]


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The directory in which the tutorial was followed, and what its commands printed."""
    directory = tmp_path_factory.mktemp("tutorial")
    page = (ROOT / "docs" / "tutorials" / "own-data.md").read_text()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    printed = ""
    for language, block in re.findall(r"```(python|sh)\n(.*?)\n```", page, flags=re.DOTALL):
        if language == "python":
            (directory / re.match(r"# (\w+\.py)\n", block)[1]).write_text(block)
        elif block != ". .venv/bin/activate":
            short = SHORT if "experiments." in block else []
            command = [sys.executable, *block.removeprefix("python ").split(), *short]
            done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            printed += done.stdout + done.stderr
    return directory, printed


def test_it_leaves_what_it_promises(followed):
    directory, printed = followed
    assert (
        "4 classes (brick, coins, grass, gravel): trained on 1200 images in runs/images/train; tested on 300" in printed
    )
    assert "reduced from 96×96 to 16×16 pixels" in printed
    run = directory / "runs" / "textures"
    assert f"test accuracy after step 3: {read_metrics(run / 'metrics.jsonl')[-1]['test_accuracy']:.2%}" in printed
    model, _, info = load(run)
    assert info.class_names == ("brick", "coins", "grass", "gravel")
    assert model.channels == (4, 4)
    for picture in (run / "contributions.png", directory / "runs" / "mosaic-maps.png"):
        assert imread(picture).std() > 0


def test_the_data_of_the_run_are_found_again(followed, monkeypatch):
    monkeypatch.chdir(followed[0])
    run = measurements.open_run(Path("runs/textures"), None)
    assert run.logits.shape == (300, 4)
    assert run.dataset.test[0]["image"].shape == (16, 16, 3)
    accuracy = (run.logits.argmax(-1) == run.labels).mean()
    last = read_metrics(run.workdir / "metrics.jsonl")[-1]
    assert accuracy == pytest.approx(last["test_accuracy"], abs=0.01)  # Where two logits are nearly equal.
