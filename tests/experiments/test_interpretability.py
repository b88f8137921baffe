"""The metrics of a finished run, as a user takes them."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coda_jax import add_inverse, data, load
from coda_jax.contributions import contribution_map, contributions
from coda_jax.metrics.localisation import compose_grids, draw_grids, localisation_score
from coda_jax.report.measured import read_records, table
from tests.experiments.processes import run_quickly

# What a residual network has in the place of the digits' CoDA-Net.
RESNET = """
from experiments.configs import digits


def get_config():
    config = digits.get_config()
    config.model = {"architecture": "resnet", "depth": 8, "num_classes": 10, "dtype": "float32"}
    config.num_steps = config.checkpoint_every = 225
    return config
"""
QUICK = ("--grids=5", "--images=40")


@pytest.fixture(scope="module")
def trained(digits_run, tmp_path_factory):
    """A copy of the short run on digits, to measure."""
    return shutil.copytree(digits_run[0], tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(scope="module")
def measured(trained):
    """The same after two methods were measured, and what was printed."""
    status, out, err = run_quickly(
        f"--workdir={trained}", "--methods=gradient,contributions", *QUICK, experiment="interpretability"
    )
    assert status == 0, err
    return trained / "interpretability", out, err


def test_it_leaves_what_it_promises(measured):
    directory, out, _ = measured
    figures = ("localisation_3x3", "pixel_removal", "randomisation", "methods", "layers")
    metrics = {"localisation_3x3-5", "pixel_removal-40", "completeness-128", "randomisation-64"}
    expected = (
        {f"{name}.{suffix}" for name in figures for suffix in ("png", "svg")} | metrics | {"table.md", "accuracy.json"}
    )
    assert {path.name for path in directory.iterdir()} == expected
    for metric in metrics:
        assert {path.name for path in (directory / metric).iterdir()} == {"contributions.json", "gradient.json"}
    table = (directory / "table.md").read_text()
    assert table in out
    assert [line.split(" | ")[0] for line in table.splitlines()[2:]] == ["| contributions", "| gradient"]
    assert str(directory) in out


def test_the_report_shows_the_same_table(measured):
    directory, _, _ = measured
    cells = [line.strip("| ").split(" | ") for line in (directory / "table.md").read_text().splitlines()]
    assert table(read_records(directory)) == cells[:1] + cells[2:]


def test_results_are_those_of_the_library(measured):
    directory, _, _ = measured
    record = json.loads((directory / "localisation_3x3-5" / "contributions.json").read_text())
    model, variables, _ = load(directory.parent)
    test = data.load("digits").test
    images = np.stack([example["image"] for example in test]) / np.float32(255)
    labels = np.array([example["label"] for example in test])
    inputs = add_inverse(jnp.asarray(images))
    drawn = draw_grids(jax.jit(model.apply)(variables, inputs), labels, count=5, grid=(3, 3), seed=0)
    maps = contribution_map(contributions(model, variables, compose_grids(inputs, drawn, (3, 3)), labels[drawn]))
    # float32; the chunks in which contributions are computed differ.
    np.testing.assert_allclose(record["results"]["scores"], localisation_score(maps, (3, 3)), rtol=1e-3, atol=1e-4)
    assert record["results"]["mean"] == pytest.approx(np.mean(record["results"]["scores"]))
    assert record["label"] == "contributions"
    assert record["columns"] == {"localisation 3×3, mean": ["mean"], "median": ["median"]}
    assert "1/9 is chance" in record["caption"] and record["place"] == 0
    assert record["produced_by"]["metric"] == {"name": "localisation_3x3", "grid": [3, 3], "grids": 5, "seed": 0}
    assert record["produced_by"]["run"]["step"] == 200
    assert record["produced_by"]["run"]["model"]["temperature"] == 10.0
    assert {"jax", "flax", "coda_jax"} <= record["versions"].keys()


def test_contributions_are_complete_and_localise(measured):
    directory, _, _ = measured
    residual = json.loads((directory / "completeness-128" / "contributions.json").read_text())["results"]
    assert residual["percentile_95"] < 1e-4  # Exact but for float32's rounding, relative to logits of some units.
    scores = {
        method: json.loads((directory / "localisation_3x3-5" / f"{method}.json").read_text())["results"]["mean"]
        for method in ("contributions", "gradient")
    }
    assert scores["contributions"] > 1 / 9  # Better than a uniform map.
    assert scores["contributions"] > scores["gradient"]
    removal = json.loads((directory / "pixel_removal-40" / "contributions.json").read_text())["results"]
    assert removal["least"]["after_25_percent"] > removal["most"]["after_25_percent"]
    assert removal["least"]["curve"][0] == pytest.approx(removal["most"]["curve"][0])
    assert len(removal["least"]["curve"]) == 17  # A quarter of 64 pixels.


def test_what_was_measured_is_not_measured_again(measured):
    directory, _, _ = measured
    before = {path: path.stat().st_mtime_ns for path in directory.glob("*/*.json")}
    metrics = "--metrics=completeness,localisation_3x3"
    status, out, err = run_quickly(
        f"--workdir={directory.parent}",
        "--methods=contributions,gradcam",
        metrics,
        *QUICK,
        experiment="interpretability",
    )
    assert status == 0, err
    assert "completeness of contributions: measured before" in out
    assert "Grad-CAM: done in" in out and "contributions: done in" not in out
    after = {path: path.stat().st_mtime_ns for path in directory.glob("*/*.json")}
    new = {path.relative_to(directory).as_posix() for path in after.keys() - before.keys()}
    assert new == {"completeness-128/gradcam.json", "localisation_3x3-5/gradcam.json"}
    assert {path: after[path] for path in before} == before


def test_former_records_learn_how_they_are_shown_and_those_of_another_checkpoint_are_measured_anew(measured, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(measured[0].parent, workdir)
    path = workdir / "interpretability" / "completeness-128" / "contributions.json"
    record = json.loads(path.read_text())
    record["produced_by"]["run"]["step"] = 45
    path.write_text(json.dumps(record))
    former = path.with_name("gradient.json")
    whole = json.loads(former.read_text())
    former.write_text(
        json.dumps({key: whole[key] for key in whole if key not in ("label", "columns", "caption", "place")})
    )
    arguments = (f"--workdir={workdir}", "--methods=contributions,gradient", "--metrics=completeness")
    status, out, err = run_quickly(*arguments, experiment="interpretability")
    assert status == 0, err
    assert "completeness of contributions: done in" in out and "completeness of gradient: measured before" in out
    assert json.loads(former.read_text()) == whole
    assert json.loads(path.read_text())["produced_by"]["run"]["step"] == 200


def test_a_sweep_over_temperatures(measured, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(measured[0].parent, other)
    config = json.loads((other / "config.json").read_text())
    config["model"]["temperature"] = 5.0  # Another network, whose logits are twice as large.
    (other / "config.json").write_text(json.dumps(config))
    settings = ("--methods=contributions", "--metrics=localisation_3x3", *QUICK)
    workdirs = f"--workdir={measured[0].parent},{other}"
    status, out, err = run_quickly(workdirs, *settings, f"--out={tmp_path / 'sweep'}", experiment="interpretability")
    assert status == 0, err
    expected = {
        f"localisation_3x3{kind}.{suffix}"
        for kind in ("", "_of_contributions", "_by_logit")
        for suffix in ("png", "svg")
    }
    assert {path.name for path in (tmp_path / "sweep").iterdir()} == expected
    assert str(tmp_path / "sweep") in out
    status, _, err = run_quickly(f"--workdir={other},{other}", f"--out={tmp_path}", experiment="interpretability")
    assert (status, err) == (1, f"error: {other} is named twice\n")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """The working directory of a small residual network that classifies digits, and what its training printed."""
    directory = tmp_path_factory.mktemp("resnet")
    (directory / "resnet.py").write_text(RESNET)
    workdir = directory / "run"
    status, out, err = run_quickly(f"--config={directory / 'resnet.py'}", f"--workdir={workdir}")
    assert status == 0, err
    return workdir, out


def test_training_draws_a_residual_network_by_gradcam(resnet):
    workdir, out = resnet
    assert (workdir / "gradcam.png").exists() and str(workdir / "gradcam.png") in out
    assert not (workdir / "contributions.png").exists() and not (workdir / "report.html").exists()
    assert "there is no report, which is for CoDA-Nets" in out


def test_a_residual_network_is_compared_with_the_contributions_of_a_coda_net(measured, resnet, tmp_path):
    workdir, out = resnet[0], tmp_path / "compared"
    methods = ("contributions", "gradcam", "deeplift")
    arguments = (f"--methods={','.join(methods)}", "--metrics=localisation_3x3,pixel_removal,randomisation", *QUICK)
    runs = f"--workdir={workdir},{measured[0].parent}"
    status, printed, err = run_quickly(runs, *arguments, f"--out={out}", experiment="interpretability")
    assert status == 0, err
    assert "of ResNet-8: contributions: model must be a CoDANet or BcosResNet, not ResNet" in printed
    assert "of 3L-CoDA-SQ-10: deeplift: CoDANet has no activation to replace" in printed
    figures = ("localisation_3x3", "pixel_removal", "methods")
    expected = {f"{name}.{suffix}" for name in figures for suffix in ("png", "svg")} | {"table.md"}
    assert {path.name for path in out.iterdir()} == expected
    table = (out / "table.md").read_text()
    assert table in printed
    rows = ["contributions of 3L-CoDA-SQ-10", "Grad-CAM of ResNet-8", "DeepLIFT of ResNet-8"]
    assert [line.split(" | ")[0] for line in table.splitlines()[2:5]] == [f"| {row}" for row in rows]
    assert "own confident images: 5 of 3L-CoDA-SQ-10, 5 of ResNet-8." in table
    of_resnet = workdir / "interpretability"
    assert (of_resnet / "methods.png").exists() and not (of_resnet / "layers.png").exists()
    randomised = json.loads((of_resnet / "randomisation-64" / "gradcam.json").read_text())["results"]["layers"]
    assert randomised == ["head", "blocks_2", "blocks_1", "blocks_0", "stem"]


def test_a_residual_network_has_no_contributions(resnet):
    status, _, err = run_quickly(f"--workdir={resnet[0]}", "--methods=contributions", experiment="interpretability")
    assert status == 1
    assert err.endswith(
        "contributions cannot explain this network for localisation_3x3: "
        "model must be a CoDANet or BcosResNet, not ResNet\n"
    )


def test_checkerboard_of_networks_with_strides(trained, resnet, tmp_path):
    trained = shutil.copytree(trained, tmp_path / "run")
    status, out, err = run_quickly(
        f"--workdir={trained}", "--methods=contributions", "--metrics=checkerboard", experiment="interpretability"
    )
    assert status == 0, err
    record = json.loads((trained / "interpretability" / "checkerboard-128" / "contributions.json").read_text())
    assert 0 < record["results"]["median"] < 1
    assert "energy at the strides' frequencies, median" in out
    status, _, err = run_quickly(f"--workdir={resnet[0]}", "--metrics=checkerboard", experiment="interpretability")
    assert (status, "it is defined for CoDA-Nets, and ResNet-8 is none" in err) == (1, True)
