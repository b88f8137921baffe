import importlib.util
import re
from pathlib import Path

import pytest

from coda_jax import CoDANet
from coda_jax.data import DatasetInfo, Preprocessing
from coda_jax.training import state
from coda_jax.training.checkpoints import Checkpoints
from coda_jax.training.run_directory import save_config, save_dataset_info
from tests.training.problem import OPTIMIZER

ROOT = Path(__file__).parents[1]


def examples(page):
    found = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    assert found
    return found


@pytest.mark.parametrize("page", ["docs/interpretability.md"])
def test_examples_run(page):
    """Those that need no files of the user's."""
    for example in examples(page):
        exec(compile(example, page, "exec"), {"__name__": "__main__"})


@pytest.fixture
def digits_run(tmp_path):
    """A directory with an untrained network in runs/digits."""
    attributes = {"channels": (4, 10), "ranks": (3, 4), "kernel_sizes": (3, 1), "strides": (2, 1), "paddings": (1, 0)}
    run = tmp_path / "runs" / "digits"
    save_config(run, {"model": attributes})
    save_dataset_info(run, DatasetInfo(tuple("0123456789"), Preprocessing(8, 8, grey=True)))
    Checkpoints(run / "checkpoints").save(state.create(CoDANet(**attributes), OPTIMIZER, (8, 8), seed=0))
    return tmp_path


def test_formats(digits_run, monkeypatch):
    """The page's examples, which go on from one another."""
    monkeypatch.chdir(digits_run)
    names = {"__name__": "__main__"}
    for example in examples("docs/formats.md"):
        if "save_checkpoint" in example and importlib.util.find_spec("torch") is None:
            continue
        exec(compile(example, "docs/formats.md", "exec"), names)
    assert names["logits"].shape == (5, 10)
