"""The notebooks run from the first cell to the last, with settings that take seconds."""

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
    assert any("image/png" in output.get("data", {}) for output in outputs)
    return "".join(output["text"] for output in outputs if output.get("name") == "stdout")


@pytest.mark.slow
def test_train_and_then_explain(tmp_path, monkeypatch):
    printed = run("train", tmp_path, monkeypatch, STEPS=120, GRIDS=3)
    accuracy = float(printed.partition("test accuracy: ")[2].partition("%")[0])
    localisation = float(printed.partition("localisation: mean ")[2].partition(",")[0])
    assert accuracy > 80  # 90 to 95 after 120 steps; 10 by chance.
    assert localisation > 0.2  # 0.11 by chance.
    printed = run("library", tmp_path, monkeypatch, IMAGES=2)
    assert "layer 3: (2, 1, 4, 4, 10)" in printed


@pytest.mark.parametrize("name", NAMES)
def test_made_of_its_text(name):
    text, notebook = jupytext.read(NOTEBOOKS / f"{name}.py"), nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4)
    nbformat.validate(notebook)

    def cells(of):
        return [(cell.cell_type, cell.source, cell.metadata.get("tags")) for cell in of.cells]

    assert cells(text) == cells(notebook)


@pytest.mark.parametrize("name", NAMES)
def test_without_outputs(name):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4)
    for cell in notebook.cells:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
