"""The experiments as a user runs them, in processes of their own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from matplotlib.image import imread

from coda_jax import add_inverse, data
from coda_jax.contributions import contributions
from coda_jax.training.metrics_log import read_metrics
from coda_jax.training.run_directory import load_run
from tests.experiments.processes import CIFAR10, ROOT, outcomes, run, run_together, start, start_together

SHORT = ("--config.num_steps=60", "--config.log_every=5", "--config.checkpoint_every=20")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The working directory of a short run on digits, and what it printed."""
    workdir = tmp_path_factory.mktemp("run")
    status, out, err = run(f"--workdir={workdir}", *SHORT)
    assert status == 0, err
    return workdir, out


def test_a_run_leaves_what_it_promises(finished):
    workdir, out = finished
    files = {"config.json", "contributions.png", "curves.png", "dataset.json", "metrics.jsonl", "report.html"}
    assert {path.name for path in workdir.iterdir()} == files | {"checkpoints", "tensorboard"}
    assert json.loads((workdir / "config.json").read_text())["model"]["temperature"] == 10.0
    last = read_metrics(workdir / "metrics.jsonl")[-1]
    assert last["step"] == 60
    assert f"test accuracy after step 60: {last['test_accuracy']:.2%}" in out
    assert str(workdir / "contributions.png") in out
    assert imread(workdir / "contributions.png").ndim == 3
    assert str(workdir / "report.html") in out


def test_a_run_that_was_stopped_before_its_last_evaluation(finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (workdir / "metrics.jsonl").write_text("".join(lines[:-1]))  # Without the evaluation after step 60.
    status, out, err = run(f"--workdir={workdir}", *SHORT)
    assert status == 0, err
    assert "test accuracy after step 60: " in out  # It is tested again.


def test_killed_run_goes_on_and_ends_with_the_same_bits(finished, tmp_path):
    process = start(f"--workdir={tmp_path}", *SHORT)
    for line in process.stderr:
        if line.startswith("step 30/60"):  # In the middle of the first epoch, 10 steps after a checkpoint.
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    status, _, err = run(f"--workdir={tmp_path}", *SHORT)
    assert status == 0, err
    assert "resumed after step 20" in err or "resumed after step 40" in err
    jax.tree.map(np.testing.assert_array_equal, load_run(tmp_path)[1], load_run(finished[0])[1])
    steps = [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl") if "loss" in record]
    assert steps == list(range(5, 65, 5))


def test_bfloat16_agrees_on_a_trained_network(finished):
    model, variables = load_run(finished[0])
    test = data.load("digits").test
    inputs = add_inverse(np.stack([example["image"] for example in test]) / np.float32(255))
    labels = np.array([example["label"] for example in test])

    def accuracy_and_contributions(model):
        predicted = np.argmax(jax.jit(model.apply)(variables, inputs), axis=-1)
        return np.mean(predicted == labels), np.float32(contributions(model, variables, inputs[:64], labels[:64]))

    accuracy, exact = accuracy_and_contributions(model)
    rounded_accuracy, rounded = accuracy_and_contributions(model.clone(dtype=jax.numpy.bfloat16))
    assert abs(accuracy - rounded_accuracy) <= 0.01  # Four images.
    # bfloat16 rounds by 2⁻⁹ = 0.2%; a contribution goes through some ten roundings in each direction.
    assert np.linalg.norm(rounded - exact) <= 2e-2 * np.linalg.norm(exact)


def assert_close_parameters(workdir, reference):
    for ours, expected in zip(*(jax.tree.leaves(load_run(path)[1]) for path in (workdir, reference)), strict=True):
        # The promise is 1e-5; the devices' sums differ in their order only.
        assert np.linalg.norm(ours - expected) <= 1e-5 * np.linalg.norm(expected)


def assert_all_succeed(results):
    for status, _, err in results:
        assert status == 0, err


@pytest.mark.parametrize("on_device", [False, True])
def test_devices_and_processes_give_the_parameters_of_one_device(tmp_path, on_device):
    arguments = ("--config.num_steps=50", f"--config.on_device={on_device}")
    one, eight, two_by_four = tmp_path / "one", tmp_path / "eight", tmp_path / "two_by_four"
    assert_all_succeed([run(f"--workdir={one}", *arguments)])
    assert_all_succeed([run(f"--workdir={eight}", *arguments, devices=8)])
    first, second = results = run_together(2, f"--workdir={two_by_four}", *arguments, devices=4)
    assert_all_succeed(results)
    for workdir in (eight, two_by_four):
        assert_close_parameters(workdir, one)
    # Process 0 alone tells and writes, and every test image counts once.
    assert "test accuracy after step 50" in first[1] and "step" not in second[1] + second[2]
    tested = [read_metrics(path / "metrics.jsonl")[-1] for path in (one, eight, two_by_four)]
    assert len({record["test_accuracy"] for record in tested}) == 1
    np.testing.assert_allclose([record["test_loss"] for record in tested], tested[0]["test_loss"], rtol=1e-5)


def test_a_signal_to_one_process_stops_all_after_the_same_step(tmp_path):
    processes = start_together(2, f"--workdir={tmp_path}", "--config.log_every=5")
    for line in processes[0].stderr:
        if line.startswith("step 10/"):
            processes[1].send_signal(signal.SIGTERM)
            break
    results = outcomes(processes)
    assert [status for status, _, _ in results] == [128 + signal.SIGTERM] * 2
    first, second = (err.splitlines()[-1] for _, _, err in results)
    assert first == second
    step = re.fullmatch(r"error: stopped by SIGTERM after step (\d+) of 1348, which is saved: .*", first)[1]
    assert (tmp_path / "checkpoints" / step).is_dir()


def test_a_checkpoint_goes_on_with_other_devices_and_processes(finished, tmp_path):
    workdir, steps = tmp_path / "run", "--config.num_steps={}".format
    arguments = (f"--workdir={workdir}", *SHORT[1:])
    assert_all_succeed([run(*arguments, steps(20), devices=8)])
    assert_all_succeed([run(*arguments, steps(30))])
    assert_all_succeed(run_together(2, *arguments, steps(45), devices=4))
    assert_all_succeed([run(*arguments, steps(60))])
    assert_close_parameters(workdir, finished[0])


def test_explain_redraws_a_finished_run(finished):
    workdir, _ = finished
    picture = workdir / "contributions.png"
    before = imread(picture)
    picture.unlink()
    status, out, err = run(f"--workdir={workdir}", "--mode=explain")
    assert status == 0, err
    assert str(picture) in out
    # The parameters' placement on devices may change the rounding, and a colour by a shade.
    np.testing.assert_allclose(imread(picture), before, atol=0.02)


def test_real_cifar10(cifar10_dir, tmp_path):
    status, out, err = run(
        CIFAR10, f"--workdir={tmp_path}", f"--config.data_dir={cifar10_dir}", "--config.num_steps=10",
        "--config.log_every=5", "--config.batch_size=32", experiment="cifar10",
    )  # fmt: skip
    assert status == 0, err
    losses = [record["loss"] for record in read_metrics(tmp_path / "metrics.jsonl") if "loss" in record]
    assert losses[1] < losses[0]
    assert imread(tmp_path / "contributions.png").ndim == 3


def test_refuses_another_configuration(finished):
    workdir, _ = finished
    before = (workdir / "config.json").read_bytes()
    status, out, err = run(f"--workdir={workdir}", *SHORT, "--config.batch_size=64", "--config.model.temperature=5.0")
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert "batch_size is 64 (there 32), model.temperature is 5.0 (there 10.0)" in err
    assert (workdir / "config.json").read_bytes() == before


def test_the_readmes_example(finished, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "digits").symlink_to(finished[0])
    example = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
