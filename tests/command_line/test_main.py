import subprocess
import sys

import pytest


@pytest.mark.parametrize("name", ["explain", "app", "evaluate", "report", "info", "export", "convert"])
def test_every_command_teaches(command, name):
    status, out, _ = command(name, "--help")
    assert status == 0 and f"coda-jax {name} " in out.split("examples:" if "examples:" in out else "example:")[1]


def test_help_and_version(command):
    assert "coda-jax explain runs/cifar10-xs cat.jpg" in command("--help")[1]
    assert "--version" in command("--help")[1]
    assert command("--version")[1].startswith("coda_jax ")


def test_without_a_command_it_tells_which_there_are(command):
    assert command() == command("--help")


def test_an_unknown_command(command):
    status, out, err = command("expalin")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "invalid choice: 'expalin'" in err and "see coda-jax --help" in err


def test_as_a_module(trained):
    done = subprocess.run([sys.executable, "-m", "coda_jax", "info", trained], capture_output=True, text=True)
    assert done.returncode == 0 and "3 classes" in done.stdout


def test_a_reader_that_has_seen_enough(trained):
    piped = f"{sys.executable} -m coda_jax info {trained} | true"
    done = subprocess.run(piped, shell=True, capture_output=True, text=True)
    assert done.stderr == ""
