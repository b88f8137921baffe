"""The notebooks run from the first cell to the last, with settings that take seconds."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
NAMES = sorted(file.stem for file in NOTEBOOKS.glob("*.py"))


def run(name, directory, monkeypatch, **parameters):
    """Run a notebook in `directory`, and return what it printed; its parameters are those given and its own."""
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOKS.parent))
    notebook = jupytext.read(NOTEBOOKS / f"{name}.py")
    (own,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    own.source += "".join(f"\n{parameter} = {value!r}" for parameter, value in parameters.items())
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": directory}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any({"image/png", "image/jpeg"} & output.get("data", {}).keys() for output in outputs)
    return "".join(output["text"] for output in outputs if output.get("name") == "stdout")


@pytest.mark.slow
def test_train_and_then_explain(tmp_path, monkeypatch):
    printed = run("train", tmp_path, monkeypatch, EPOCHS=5, GRIDS=3)
    accuracy = float(printed.partition("test accuracy: ")[2].partition("%")[0])
    localisation = float(printed.partition("localisation: mean ")[2].partition(",")[0])
    assert accuracy > 80  # 98 after 5 epochs; 10 by chance.
    assert localisation > 0.2  # 0.11 by chance.
    printed = run("library", tmp_path, monkeypatch, NETWORK="runs/notebook/network", IMAGES=2)
    assert "layer 3: (2, 1, 4, 4, 10)" in printed


@pytest.mark.slow
def test_look(tmp_path, monkeypatch):
    printed = run("look", tmp_path, monkeypatch, NETWORK="digits")
    assert "The classes that it knows: 0, 1, 2" in printed
    assert printed.count(" come from the middle") == 4


class TestInstallation:
    """The command with which the second cell installs coda_jax where there is none."""

    def command(self, monkeypatch, source, devices=(), programs=()):
        commands = []
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        monkeypatch.setattr(shutil, "which", lambda name: name if name in programs else None)
        monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
        monkeypatch.setattr(Path, "glob", lambda path, pattern: [path for device in devices if pattern[:4] in device])
        (cell,) = {
            next(cell.source for cell in jupytext.read(NOTEBOOKS / f"{name}.py").cells if "find_spec" in cell.source)
            for name in NAMES
        }
        exec(cell, {"SOURCE": source})
        ((*_, requirement),) = commands
        return requirement

    def test_of_a_clone(self, monkeypatch, capsys):
        requirement = self.command(monkeypatch, str(NOTEBOOKS.parent))
        assert requirement == f"coda_jax[all] @ {NOTEBOOKS.parent.as_uri()}"
        assert "some minutes" in capsys.readouterr().out

    def test_from_an_address_on_a_gpu(self, monkeypatch):
        requirement = self.command(monkeypatch, "git+https://example.org/coda_jax", programs=["nvidia-smi"])
        assert requirement == "coda_jax[all,cuda] @ git+https://example.org/coda_jax"

    def test_on_a_tpu(self, monkeypatch):
        requirement = self.command(monkeypatch, "git+https://example.org/coda_jax", devices=["accel0"])
        assert requirement == "coda_jax[all,tpu] @ git+https://example.org/coda_jax"

    def test_without_a_clone(self, monkeypatch, tmp_path):
        with pytest.raises(SystemExit, match="no clone of coda_jax is in .*: write in SOURCE where it is"):
            self.command(monkeypatch, str(tmp_path))


@pytest.mark.parametrize("name", NAMES)
def test_made_of_its_text(name):
    text, notebook = jupytext.read(NOTEBOOKS / f"{name}.py"), nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4)
    nbformat.validate(notebook)

    def cells(of):
        return [(cell.cell_type, cell.source, cell.metadata.get("tags")) for cell in of.cells]

    assert cells(text) == cells(notebook)


@pytest.mark.parametrize("name", NAMES)
def test_shows_what_it_gave(name):
    path = NOTEBOOKS / f"{name}.ipynb"
    outputs = [output for cell in nbformat.read(path, 4).cells for output in cell.get("outputs", [])]
    assert any({"image/png", "image/jpeg"} & output.get("data", {}).keys() for output in outputs)
    assert not [output for output in outputs if output.output_type == "error"]
    assert "/home/" not in path.read_text() and "/root/" not in path.read_text() and "/work/" not in path.read_text()
    assert path.stat().st_size < 1_000_000
