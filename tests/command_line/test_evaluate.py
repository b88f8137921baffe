import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from coda_jax import add_inverse, from_pretrained, load_pretrained, save_pretrained
from coda_jax.data import load
from coda_jax.networks.config_file import load_config, save_config
from tests.command_line.conftest import INFO


@pytest.fixture
def photographs(tmp_path):
    """Seven images in the folders of two classes."""
    pixels = np.random.default_rng(0).integers(0, 255, (7, 8, 8, 3), np.uint8)
    for number, image in enumerate(pixels):
        folder = tmp_path / "photographs" / ("cat" if number < 3 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    return tmp_path / "photographs", pixels


def test_images_of_ones_own(trained, command, photographs):
    folder, pixels = photographs
    status, out, err = command("evaluate", trained, "--images", folder)
    assert status == 0, err
    model, variables, _ = from_pretrained(trained)
    logits = np.asarray(jax.jit(model.apply)(variables, add_inverse(pixels / np.float32(255))), np.float64)
    labels = np.array([0] * 3 + [1] * 4)
    right = logits.argmax(-1) == labels
    truth = np.eye(3)[labels]
    loss = np.mean(-truth * np.log(1 / (1 + np.exp(-logits))) - (1 - truth) * np.log(1 / (1 + np.exp(logits))))
    told = json.loads(command("evaluate", trained, "--images", folder, "--json")[1])
    assert told == {
        "network": str(trained),
        "accuracy": pytest.approx(right.mean()),
        "images": 7,
        "loss": pytest.approx(loss, rel=1e-4),
        "classes": [
            {"name": "cat", "accuracy": pytest.approx(right[:3].mean()), "images": 3},
            {"name": "dog", "accuracy": pytest.approx(right[3:].mean()), "images": 4},
        ],
    }
    assert [line.split(maxsplit=1) for line in out.splitlines()] == [
        ["cat", f"{right[:3].mean():.2%} of 3 images"],
        ["dog", f"{right[3:].mean():.2%} of 4 images"],
        ["all", f"{right.mean():.2%} of 7 images, loss {loss:.4f}"],
    ]


def test_data_that_is_a_folder_of_images(trained, command, photographs, tmp_path):
    folder, pixels = photographs
    assert command("evaluate", trained, "--data", folder) == command("evaluate", trained, "--images", folder)
    # Of a run on such a folder the images that were held back, a fifth of each class, are taken.
    info = INFO._replace(class_names=tuple(sorted(INFO.class_names)))
    for number in range(12):
        name = info.class_names[number % 3]
        (tmp_path / "own" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0] + np.uint8(number)).save(tmp_path / "own" / name / f"{number}.png")
    shutil.copytree(trained, tmp_path / "run")
    config, _ = load_config(trained)
    save_config(tmp_path / "run", config | {"dataset": "image_folder", "image_size": 8}, info)
    status, out, err = command("evaluate", tmp_path / "run", "--data", tmp_path / "own")
    assert status == 0 and "of 3 images, loss" in out, err


def test_the_runs_own_data(digits_run, command):
    workdir, told = digits_run
    status, out, err = command("evaluate", workdir)
    assert status == 0, err
    last = out.splitlines()[-1]
    accuracy = last.split()[1]
    assert f"of {len(load('digits').test)} images" in last and f"test accuracy after step 200: {accuracy}" in told


def test_the_report_is_written_anew(digits_run, command, tmp_path):
    shutil.copytree(digits_run[0], tmp_path / "run")
    page = tmp_path / "run" / "report.html"
    before = page.read_bytes()
    page.unlink()
    status, out, err = command("report", tmp_path / "run")
    assert (status, out) == (0, f"{page}\n"), err
    # Numbers may round to other lengths, as the parameters are placed on devices otherwise than in training.
    assert abs(len(page.read_bytes()) - len(before)) < 0.01 * len(before)


def test_mistakes(trained, command, photographs, tmp_path):
    (photographs[0] / "dgo").mkdir()
    (tmp_path / "empty").mkdir()
    for arguments, line in (
        ((tmp_path / "none",), "there is no run in"),
        ((trained, "--images", tmp_path / "none"), f"there is no folder {tmp_path / 'none'}"),
        ((trained, "--images", tmp_path / "empty"), f"{tmp_path / 'empty'} has no images in subfolders"),
        ((trained, "--images", photographs[0]), f"{photographs[0] / 'dgo'} is named as no class of the network, such"),
        ((trained, "--data", "a", "--images", "b"), "argument --images: not allowed with argument --data"),
        ((trained,), f"{trained} holds a run on other classes"),
    ):
        status, out, err = command("evaluate", *arguments)
        assert (status, out, err.count("\n")) == (1, "", 1) and err.startswith(f"error: {line}"), err
    assert command("report", tmp_path / "none")[2].startswith("error: there is no run in")
    save_pretrained(tmp_path / "kept", *load_pretrained("digits"))
    assert command("report", tmp_path / "kept")[2].startswith(
        f"error: {tmp_path / 'kept'} says nothing of its data, as"
    )
