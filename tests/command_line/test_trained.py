import shutil

import numpy as np
from PIL import Image

from coda_jax import load, save_pretrained
from coda_jax.interop.pretrained import pretrained_directory


def test_networks_that_come_with_the_library(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save("my.png")
    (tmp_path / "digits").mkdir()  # A folder of images, say.
    status, out, err = command("explain", "digits", "my.png")
    assert status == 0 and (tmp_path / "explanations" / "my.png").exists(), err
    status, out, err = command("info", "digits")
    assert status == 0 and "10 classes: 0, 1, 2" in out, err
    assert out.endswith(f"model card: {pretrained_directory('digits') / 'README.md'}\n")
    status, _, err = command("evaluate", "digits")
    assert (status, err) == (1, "error: digits says nothing of its data: name a folder of images, --images=DIR\n")
    status, _, err = command("export", "digits")
    assert (status, err) == (1, "error: digits comes with coda_jax: say where to write it, --out=PATH\n")
    status, _, err = command("export", "digits", "--format=safetensors", "--out=copy")
    assert status == 0 and (tmp_path / "copy" / "model.safetensors").exists(), err


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
