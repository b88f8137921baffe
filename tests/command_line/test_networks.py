import re
import shutil

import numpy as np
from PIL import Image

from coda_jax import from_pretrained, load, save_pretrained
from coda_jax.data import DatasetInfo, Preprocessing
from coda_jax.interop import bcos
from coda_jax.interop.pretrained import Pretrained, pretrained_directory
from coda_jax.networks.bcos_resnet import BcosResNet
from tests.parameters import random_variables


def test_networks_that_come_with_the_library(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save("my.png")
    (tmp_path / "digits").mkdir()  # A folder of images, say.
    status, out, err = command("explain", "digits", "my.png")
    assert status == 0 and (tmp_path / "explanations" / "my.png").exists(), err
    status, out, err = command("info", "digits")
    assert status == 0 and "10 classes: 0, 1, 2" in out, err
    assert out.endswith(f"model card: {pretrained_directory('digits') / 'README.md'}\n")
    status, out, err = command("evaluate", "digits")
    assert status == 0 and out.splitlines()[-1].startswith("all   98.61% of 360 images, "), err  # As its card says.
    files = set(pretrained_directory("digits").iterdir())
    status, out, err = command("report", "digits")
    assert (status, out) == (0, "digits-report.html\n"), err
    page = (tmp_path / "digits-report.html").read_text()
    assert "<strong>98.61%</strong>" in page and "digits · 10 classes" in page
    assert set(pretrained_directory("digits").iterdir()) == files
    status, _, err = command("export", "digits")
    assert (status, err) == (1, "error: digits is a network's name: say where to write it, --out=PATH\n")
    status, _, err = command("export", "digits", "--format=safetensors", "--out=copy")
    assert status == 0 and (tmp_path / "copy" / "model.safetensors").exists(), err


def test_networks_that_are_published_elsewhere(command, tmp_path, monkeypatch):
    """The commands, with a small network in the place of the download, which tests/interop/test_bcos.py tries."""
    model = BcosResNet(blocks=(1,), num_classes=250, width=4)
    info = DatasetInfo(tuple(f"class {label}" for label in range(250)), Preprocessing(size=24, shorter_side=28))
    network = Pretrained(model, random_variables(model), info)
    monkeypatch.setattr(bcos, "load_published", {"bcos-resnet18": network}.get)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder" / "class 7").mkdir(parents=True)
    Image.fromarray(np.zeros((32, 28, 3), np.uint8)).save("folder/class 7/my.png")
    status, out, err = command("explain", "bcos-resnet18", "folder/class 7/my.png", "--classes=class 7")
    assert status == 0 and (tmp_path / "explanations" / "my.png").exists(), err
    assert out.startswith("folder/class 7/my.png: cropped to the centre, ")
    status, out, err = command("evaluate", "bcos-resnet18", "--images=folder")
    assert status == 0 and re.search(r"^all +\d+.00% of 1 images", out, re.MULTILINE), err
    status, out, err = command("info", "bcos-resnet18")
    assert status == 0 and "24×24 pixels, RGB, the centre of images whose shorter side has 28\n250 classes" in out, err
    status, out, err = command("export", "bcos-resnet18", "--format=safetensors", "--out=copy")
    assert status == 0, err
    assert from_pretrained("copy").info == info
    for arguments, line in (
        (
            ("evaluate", "bcos-resnet18"),
            "bcos-resnet18 says nothing of its data: name a folder of images, --images=DIR",
        ),
        (("export", "bcos-resnet18"), "bcos-resnet18 is a network's name: say where to write it, --out=PATH"),
        (
            ("export", "bcos-resnet18", "--out=file"),
            "bcos-resnet18 has 250 classes, but a function that gives the maps",
        ),
        (("report", "bcos-resnet18"), "there is no run in bcos-resnet18"),
    ):
        status, out, err = command(*arguments)
        assert (status, out, err.count("\n")) == (1, "", 1) and err.startswith(f"error: {line}"), err
    (tmp_path / "bcos-resnet18").mkdir()
    (tmp_path / "copy" / "config.json").rename("bcos-resnet18/config.json")  # A directory goes before a name.
    assert "bcos-resnet18/model.safetensors is missing" in command("info", "bcos-resnet18")[2]


def test_a_network_without_class_names(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save("my.png")
    model, variables, _ = load("digits")
    save_pretrained("plain", model, variables)
    for arguments in (("explain", "plain", "my.png"), ("evaluate", "plain"), ("export", "plain")):
        status, _, err = command(*arguments)
        expected = "error: plain says nothing of its classes and images: save it with save_pretrained(..., info=...)\n"
        assert (status, err) == (1, expected)
    status, out, err = command("info", "plain")
    assert status == 0 and "3 layers" in out, err


def test_a_directory_goes_before_a_name(trained, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "digits")
    status, out, err = command("info", "digits")
    assert status == 0 and "3 classes: cat, dog" in out, err


def test_unknown_names(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("dgits", "runs/digits"):
        status, out, err = command("info", name)
        expected = f"there is no run in {name}" + (
            ", and no network 'dgits' comes with coda_jax: there are " if name == "dgits" else ": it has no config.json"
        )
        assert (status, out, err.count("\n")) == (1, "", 1) and err.startswith(f"error: {expected}"), err
