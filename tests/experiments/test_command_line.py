import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from experiments import command_line
from tests.experiments.processes import CIFAR10, run


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
    ("arguments", "experiment", "message"),
    [
        ([], "cifar10", "--config=FILE:NAME is missing"),
        ([CIFAR10 + "5"], "cifar10", "no configuration '5L-XS-CoDA-SQ-1005': the nearest are 5L-XS-CoDA-SQ-100,"),
        (["--config=nowhere.py:a"], "cifar10", "there is no file nowhere.py"),
        (["--config=README.md"], "cifar10", "README.md is not a Python file with a function get_config"),
        ([CIFAR10, "--config.batchsize=8"], "cifar10", "no key 'batchsize': 'batchsize' could be batch_size"),
        ([CIFAR10, "--config.model.rank=8"], "cifar10", "no key 'model.rank': 'rank' could be ranks"),
        ([CIFAR10, "--config.batch_size=many"], "cifar10", "--config.batch_size=many"),
        ([CIFAR10, "--config.data_dir=/nowhere"], "cifar10", "/nowhere is not a directory"),
        (["--workdi=DIR"], "digits", "Unknown command line flag 'workdi'. Did you mean: workdir"),
        (["--mode=exlpain"], "digits", "value should be one of <train|explain>"),
        (["more"], "digits", "unexpected argument 'more'"),
        (["--mode=explain"], "digits", "there is no run in"),
        (["--config.batch_size=0"], "digits", "batch_size is 0, but must be a positive multiple"),
        (["--config.log_every=0"], "digits", "log_every is 0, but must be at least 1"),
        (["--config.num_steps=0"], "digits", "num_steps is 0, but must be at least 1"),
        (["--config.model.channels=(16, 32, 9)"], "digits", "the last of channels is 9, but the data has 10 classes"),
        (["--config.model.strides=(1,)"], "digits", "strides 1, paddings 3"),
        (["--config.model.norm=l3"], "digits", "norm is 'l3', but must be one of sq, l2"),
        (["--config.dataset=mnist"], "digits", "there is no data set 'mnist'"),
    ],
)
def test_mistakes_are_answered_with_a_line(tmp_path, arguments, experiment, message):
    status, out, err = run(f"--workdir={tmp_path / 'run'}", *arguments, experiment=experiment)
    assert (status, out) == (1, "")
    assert err.startswith("error: ") and err.count("\n") == 1, err
    assert message in err
    assert not (tmp_path / "run").exists()


def test_batch_size_and_eight_devices(tmp_path):
    status, _, err = run(f"--workdir={tmp_path}", "--config.batch_size=12", devices=8)
    assert (status, err) == (1, "error: batch_size is 12, but must be a positive multiple of the 8 device(s)\n")


def test_workdir_is_needed():
    status, _, err = run()
    assert status == 1 and "--workdir" in err and err.count("\n") == 1
