import doctest
import importlib.util
import re
from pathlib import Path

import optax
import pytest

from coda_jax import CoDANet, data
from coda_jax.networks.config_file import save_config
from coda_jax.training import state
from coda_jax.training.checkpoints import Checkpoints

ROOT = Path(__file__).parents[1]
MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in sorted((ROOT / "coda_jax").rglob("*.py"))
    if ">>>" in file.read_text()
]
NETWORK = {"channels": (4, 10), "ranks": (2, 2), "kernel_sizes": (3, 1), "strides": (1, 1), "paddings": (1, 0)}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A directory with a run in `runs/digits`, of a network that has learnt nothing."""
    home = tmp_path_factory.mktemp("home")
    run = home / "runs" / "digits"
    save_config(run, {"dataset": "digits", "model": NETWORK}, data.load("digits").info)
    Checkpoints(run / "checkpoints").save(state.create(CoDANet(**NETWORK), optax.sgd(1.0), (8, 8), seed=0))
    return home


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/attribution.md",
        "docs/bcos.md",
        "docs/formats.md",
        "docs/hybrids.md",
        "docs/index.md",
        "docs/tutorials/serving.md",
    ],
)
def test_examples_run(page, home, monkeypatch):
    """Those that need no files but a run of the digits."""
    monkeypatch.chdir(home)
    examples = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    assert examples
    variables = {"__name__": "__main__"}
    for example in examples:
        if "save_checkpoint" in example and importlib.util.find_spec("torch") is None:
            continue
        exec(compile(example, page, "exec"), variables)


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_docstrings_say_what_happens(module):
    failed, run = doctest.testmod(importlib.import_module(module))
    assert run > 0
    assert failed == 0
