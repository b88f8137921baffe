import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

from tests.test_requirements import known_versions

ROOT = Path(__file__).parents[2]


def test_the_space_serves_the_page(monkeypatch):
    calls = []
    launch = SimpleNamespace(launch=lambda *arguments, **settings: calls.append((arguments, settings)))
    monkeypatch.setitem(sys.modules, "coda_jax.command_line.app_page", launch)
    runpy.run_path(str(ROOT / "space" / "app.py"))
    assert calls == [(("imagenette",), {"host": "0.0.0.0"})]


def test_the_space_has_the_gradio_that_is_tested():
    lines = (ROOT / "space" / "README.md").read_text().splitlines()
    for file in (ROOT / "constraints").iterdir():
        assert f"sdk_version: {known_versions(file)['gradio']}" in lines
