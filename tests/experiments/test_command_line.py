import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from experiments import command_line
from tests.experiments.processes import run_quickly


@pytest.fixture
def cache_dir(monkeypatch):
    """A function that returns the directory in which compiled programs are kept, given the one configured before."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}

    def kept_in(configured=None):
        jax.config.update("jax_compilation_cache_dir", configured)
        command_line.keep_compiled_programs()
        return jax.config.jax_compilation_cache_dir

    yield kept_in
    for name, value in before.items():
        jax.config.update(name, value)


def test_compiled_programs_are_kept_in_the_users_cache(cache_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_dir() == str(tmp_path / "cache" / "coda_jax" / "compiled")
    assert Path(cache_dir()).is_dir()
    assert jax.config.jax_persistent_cache_min_compile_time_secs < 1
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == str(tmp_path / ".cache" / "coda_jax" / "compiled")


def test_a_configured_directory_stays(cache_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_dir("/elsewhere") == "/elsewhere"
    assert not (tmp_path / "cache").exists()


def test_a_directory_that_cannot_be_written_is_done_without(cache_dir, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where the directory goes")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_dir() is None


def test_the_command_lines_keep_compiled_programs(tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    command = [sys.executable, "-m", "experiments.digits", f"--workdir={tmp_path}", "--mode=explain"]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, env=environment | {"XDG_CACHE_HOME": str(tmp_path / "cache")}, cwd=root, capture_output=True, text=True
    )
    assert "there is no run in" in done.stderr
    assert (tmp_path / "cache" / "coda_jax" / "compiled").is_dir()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(28, "No space left on device", "runs/a/metrics.jsonl"),
            "runs/a/metrics.jsonl: No space left on device",
        ),
        (MemoryError(), "the memory is full: lower --config.batch_size"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "the memory is full: lower --config.batch_s"),
    ],
)
def test_what_the_machine_cannot_do_is_answered_with_a_line(cache_dir, monkeypatch, error, message):
    def main():
        raise error

    monkeypatch.setattr(command_line.app, "run", lambda main, flags_parser: main(["program"]))
    with pytest.raises(SystemExit, match=f"^error: {message}"):
        command_line.run_without_config(main)


@pytest.mark.parametrize(
    "error", [OSError("a library's own"), jax.errors.JaxRuntimeError("INTERNAL: a mistake of ours")]
)
def test_other_errors_are_not_hidden(cache_dir, monkeypatch, error):
    def main():
        raise error

    monkeypatch.setattr(command_line.app, "run", lambda main, flags_parser: main(["program"]))
    with pytest.raises(type(error)):
        command_line.run_without_config(main)


def test_batch_size_and_eight_devices(tmp_path):
    status, _, err = run_quickly(f"--workdir={tmp_path}", "--config.batch_size=12", devices=8)
    assert (status, err) == (1, "error: batch_size is 12, but must be a positive multiple of the 8 device(s)\n")


def test_help_tells_the_flags_and_the_keys_of_the_configuration():
    _, out, _ = run_quickly("--help")
    assert all(flag in out for flag in ("--workdir: Directory of the run", "--mode: <train|explain>", "--config: FILE"))
    assert "batch_size, " in out and "crop_padding" in out
