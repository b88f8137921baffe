"""The ranges of the dependencies' versions, and the versions that are known to work."""

import configparser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def direct_requirements():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    lines = [line for file in (ROOT / "requirements").iterdir() for line in file.read_text().splitlines()]
    for extra in settings["options.extras_require"].values():
        lines += [line for line in extra.split("\n") if not line.startswith("file:")]
    found = [Requirement(line) for line in lines if line]
    return [requirement for requirement in found if not requirement.extras]  # Their ranges are said elsewhere.


def test_requirements_txt_holds_all():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert sorted(lines) == sorted(f"-r requirements/{file.name}" for file in (ROOT / "requirements").iterdir())


def test_every_range_is_said_once():
    names = [requirement.name for requirement in direct_requirements()]
    assert sorted(set(names) - {"torch"}) == sorted(name for name in names if name != "torch")


def known_versions(file):
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("==") for line in lines)  # Raises where a line is not a name and a version.


@pytest.mark.parametrize("requirement", direct_requirements(), ids=str)
def test_every_dependency_has_a_range_that_holds_the_known_versions(requirement):
    assert sorted({specifier.operator for specifier in requirement.specifier}) == ["<", ">="]
    for file in (ROOT / "constraints").iterdir():
        version = known_versions(file).get(canonicalize_name(requirement.name))
        if version is None:
            assert requirement.name == "torch"  # Not tested on every Python.
        else:
            assert version in requirement.specifier, file.name


def test_every_python_has_known_versions():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    pythons = [line.split(" :: ")[-1] for line in settings["metadata"]["classifiers"].split("\n") if line]
    assert sorted(file.name for file in (ROOT / "constraints").iterdir()) == [f"python{p}.txt" for p in sorted(pythons)]
