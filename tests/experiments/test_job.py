"""The experiments as a user runs them, in processes of their own."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from matplotlib.image import imread

from coda_jax import add_inverse, data
from coda_jax.contributions import contributions
from coda_jax.training.metrics_log import read_metrics
from coda_jax.training.run_directory import load_run

ROOT = Path(__file__).parents[2]
CIFAR10 = "--config=experiments/configs/cifar10.py:5L-XS-CoDA-SQ-100"


def start(*arguments, experiment="digits", devices=1):
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, "-m", f"experiments.{experiment}", *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def run(*arguments, **settings):
    """(exit status, standard output, standard error)."""
    process = start(*arguments, **settings)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


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
    expected = {"checkpoints", "config.json", "contributions.png", "curves.png", "metrics.jsonl", "tensorboard"}
    assert {path.name for path in workdir.iterdir()} == expected
    assert json.loads((workdir / "config.json").read_text())["model"]["temperature"] == 10.0
    last = read_metrics(workdir / "metrics.jsonl")[-1]
    assert last["step"] == 60
    assert f"test accuracy after step 60: {last['test_accuracy']:.2%}" in out
    assert str(workdir / "contributions.png") in out
    assert imread(workdir / "contributions.png").ndim == 3


def test_no_further_step_where_the_last_record_is_of_training(finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (workdir / "metrics.jsonl").write_text("".join(lines[:-1]))  # Without the evaluation after step 60.
    status, out, err = run(f"--workdir={workdir}", *SHORT)
    assert status == 0, err
    assert "test accuracy after step 45: " in out  # The first epoch's end.


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


@pytest.mark.parametrize("on_device", [False, True])
def test_eight_devices_give_the_parameters_of_one(tmp_path, on_device):
    arguments = ("--config.num_steps=20", f"--config.on_device={on_device}")
    for devices in (1, 8):
        status, _, err = run(f"--workdir={tmp_path / str(devices)}", *arguments, devices=devices)
        assert status == 0, err
    (_, one), (_, eight) = load_run(tmp_path / "1"), load_run(tmp_path / "8")
    for ours, expected in zip(jax.tree.leaves(eight), jax.tree.leaves(one), strict=True):
        # The promise is 1e-5; the devices' sums differ in their order only.
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


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


@pytest.mark.parametrize(
    ("arguments", "experiment", "message"),
    [
        ([], "cifar10", "--config=FILE:NAME is missing"),
        ([CIFAR10 + "0"], "cifar10", "no configuration '5L-XS-CoDA-SQ-1000': the nearest are 5L-XS-CoDA-SQ-100,"),
        (["--config=nowhere.py:a"], "cifar10", "there is no file nowhere.py"),
        (["--config=README.md"], "cifar10", "README.md is not a Python file with a function get_config"),
        ([CIFAR10, "--config.batchsize=8"], "cifar10", "no key 'batchsize': 'batchsize' could be batch_size"),
        ([CIFAR10, "--config.model.rank=8"], "cifar10", "no key 'model.rank': 'rank' could be ranks"),
        ([CIFAR10, "--config.batch_size=many"], "cifar10", "--config.batch_size=many"),
        ([CIFAR10, "--config.data_dir=/nowhere"], "cifar10", "/nowhere is not a directory"),
        (["--workdi=DIR"], "digits", "Unknown command line flag 'workdi'. Did you mean: workdir"),
        (["--mode=exlpain"], "digits", "value should be one of <train|explain>"),
        (["more"], "digits", "unexpected argument 'more'"),
        (["--mode=explain"], "digits", "there is no run in"),
        (["--config.batch_size=0"], "digits", "batch_size is 0, but must be a positive multiple"),
        (["--config.log_every=0"], "digits", "log_every is 0, but must be at least 1"),
        (["--config.num_steps=0"], "digits", "num_steps is 0, but must be at least 1"),
        (["--config.model.channels=(16, 32, 9)"], "digits", "the last of channels is 9, but the data has 10 classes"),
        (["--config.model.strides=(1,)"], "digits", "strides 1, paddings 3"),
        (["--config.model.norm=l3"], "digits", "norm is 'l3', but must be one of sq, l2"),
        (["--config.dataset=mnist"], "digits", "there is no data set 'mnist'"),
    ],
)
def test_mistakes_are_answered_with_a_line(tmp_path, arguments, experiment, message):
    status, out, err = run(f"--workdir={tmp_path / 'run'}", *arguments, experiment=experiment)
    assert (status, out) == (1, "")
    assert err.startswith("error: ") and err.count("\n") == 1, err
    assert message in err
    assert not (tmp_path / "run").exists()


def test_batch_size_and_eight_devices(tmp_path):
    status, _, err = run(f"--workdir={tmp_path}", "--config.batch_size=12", devices=8)
    assert (status, err) == (1, "error: batch_size is 12, but must be a positive multiple of the 8 device(s)\n")


def test_workdir_is_needed():
    status, _, err = run()
    assert status == 1 and "--workdir" in err and err.count("\n") == 1


def test_the_readmes_example(finished, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "digits").symlink_to(finished[0])
    example = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
