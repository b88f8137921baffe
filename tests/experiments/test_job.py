"""The experiments as a user runs them, in processes of their own."""

import json
import shutil
import signal

import jax
import numpy as np
from matplotlib.image import imread
from PIL import Image

from coda_jax import add_inverse, data, load
from coda_jax.contributions import contributions
from coda_jax.training.metrics_log import read_metrics
from tests.experiments.processes import CIFAR10, SHORT, run_quickly, start


def test_a_run_leaves_what_it_promises(digits_run):
    workdir, out = digits_run
    files = {"config.json", "contributions.png", "curves.png", "metrics.jsonl", "report.html"}
    assert {path.name for path in workdir.iterdir()} == files | {"checkpoints", "tensorboard"}
    assert json.loads((workdir / "config.json").read_text())["model"]["temperature"] == 10.0
    last = read_metrics(workdir / "metrics.jsonl")[-1]
    assert last["step"] == 200
    assert f"test accuracy after step 200: {last['test_accuracy']:.2%}" in out
    assert str(workdir / "contributions.png") in out
    assert imread(workdir / "contributions.png").ndim == 3
    assert str(workdir / "report.html") in out


def test_a_run_that_was_stopped_before_its_last_evaluation(digits_run, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(digits_run[0], workdir)
    lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (workdir / "metrics.jsonl").write_text("".join(lines[:-1]))  # Without the evaluation after step 200.
    status, out, err = run_quickly(f"--workdir={workdir}", *SHORT)
    assert status == 0, err
    assert "test accuracy after step 200: " in out  # It is tested again.


def test_killed_run_goes_on_and_ends_with_the_same_bits(digits_run, tmp_path):
    process = start(f"--workdir={tmp_path}", *SHORT)
    for line in process.stderr:
        if line.startswith("step 30/200"):  # In the middle of the first epoch, 10 steps after a checkpoint.
            process.send_signal(signal.SIGSTOP)  # It still holds the directory, where no second run can begin.
            status, out, err = run_quickly(f"--workdir={tmp_path}", *SHORT)
            assert (status, out, err.count("\n")) == (1, "", 1)
            assert f"{tmp_path} is in use by process {process.pid} on " in err
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    status, _, err = run_quickly(f"--workdir={tmp_path}", *SHORT)
    assert status == 0, err
    assert "resumed after step 20" in err or "resumed after step 40" in err
    jax.tree.map(np.testing.assert_array_equal, load(tmp_path).variables, load(digits_run[0]).variables)
    steps = [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl") if "loss" in record]
    assert steps == list(range(10, 210, 10))


def test_bfloat16_agrees_on_a_trained_network(digits_run):
    model, variables, _ = load(digits_run[0])
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


def test_explain_redraws_a_finished_run(digits_run, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(digits_run[0], workdir)
    picture = workdir / "contributions.png"
    before = imread(picture)
    picture.unlink()
    status, out, err = run_quickly(f"--workdir={workdir}", "--mode=explain")
    assert status == 0, err
    assert str(picture) in out
    # The parameters' placement on devices may change the rounding, and a colour by a shade.
    np.testing.assert_allclose(imread(picture), before, atol=0.02)


def test_real_cifar10(cifar10_dir, tmp_path):
    """All 10,000 test images are classified twice, for which a smaller network is quick enough."""
    status, out, err = run_quickly(
        CIFAR10, f"--workdir={tmp_path}", f"--config.data_dir={cifar10_dir}", "--config.num_steps=10",
        "--config.log_every=5", "--config.batch_size=32", "--config.model.channels=(4,4,4,4,10)",
        "--config.model.ranks=(4,4,4,4,4)", experiment="cifar10",
    )  # fmt: skip
    assert status == 0, err
    losses = [record["loss"] for record in read_metrics(tmp_path / "metrics.jsonl") if "loss" in record]
    assert losses[1] < losses[0]
    assert imread(tmp_path / "contributions.png").ndim == 3


def test_refuses_another_configuration(digits_run, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(digits_run[0], workdir)
    before = (workdir / "config.json").read_bytes()
    status, out, err = run_quickly(
        f"--workdir={workdir}", *SHORT, "--config.batch_size=64", "--config.model.temperature=5.0"
    )
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert "batch_size is 64 (there 32), model.temperature is 5.0 (there 10.0)" in err
    assert (workdir / "config.json").read_bytes() == before


def last_test(workdir):
    return [record for record in read_metrics(workdir / "metrics.jsonl") if "test_accuracy" in record][-1]


def test_a_run_begins_with_a_trained_network(digits_run, tmp_path):
    flags = "--config.num_steps=1", "--config.learning_rate=0.0", "--config.model.temperature=20.0"
    command = (f"--workdir={tmp_path / 'run'}", f"--config.init={digits_run[0]}", *flags)
    for _ in range(2):  # The second time it goes on, with nothing left to do.
        status, _, err = run_quickly(*command)
        assert status == 0, err
    assert "trained on images" not in err
    trained = last_test(digits_run[0])
    assert last_test(tmp_path / "run")["test_accuracy"] == trained["test_accuracy"] > 0.5
    assert load(tmp_path / "run").model.temperature == 20
    jax.tree.map(np.testing.assert_array_equal, load(tmp_path / "run").variables, load(digits_run[0]).variables)
    status, _, err = run_quickly(f"--workdir={tmp_path / 'run'}", *flags)
    assert (status, "init is None (there " in err) == (1, True)


def test_other_classes_and_images_of_another_size(digits_run, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(5):
            noise = np.random.default_rng(number).integers(0, 256, (9, 9, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / "images" / name / f"{number}.png")
    status, _, err = run_quickly(
        f"--workdir={tmp_path / 'run'}", f"--config.data_dir={tmp_path / 'images'}", "--config.image_size=16",
        f"--config.init={digits_run[0]}", "--config.batch_size=8", "--config.num_steps=1",
        "--config.learning_rate=0.0", "--config.schedule=step", "--config.decay_epochs=1", experiment="image_folder",
    )  # fmt: skip
    assert status == 0, err
    assert f"{digits_run[0]} was trained on images of 8 pixels, and goes on with images of 16" in err.splitlines()
    assert "the learning rate vanishes: after 18 of 20 epochs it is less than a thousandth of 0.0: raise" in err
    (model, variables, info), (old, trained, _) = load(tmp_path / "run"), load(digits_run[0])
    assert (model.channels, info.class_names) == ((*old.channels[:-1], 2), ("a", "b"))
    assert (model.temperature, model.kernel_sizes) == (old.temperature, old.kernel_sizes)
    np.testing.assert_array_equal(variables["params"]["layers_0"]["A"], trained["params"]["layers_0"]["A"])
