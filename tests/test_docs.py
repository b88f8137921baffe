import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in sorted((ROOT / "coda_jax").rglob("*.py"))
    if ">>>" in file.read_text()
]


@pytest.mark.parametrize("page", ["docs/interpretability.md"])
def test_examples_run(page):
    """Those that need no files of the user's."""
    examples = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    assert examples
    for example in examples:
        exec(compile(example, page, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_say_what_happens(module):
    failed, run = doctest.testmod(importlib.import_module(module))
    assert run > 0
    assert failed == 0
