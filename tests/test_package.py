import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import coda_jax
from tests.errors.test_extras import EXPLAIN

ROOT = Path(__file__).parents[1]
FILES = ("LICENSE", "README.md", "pyproject.toml", "setup.cfg")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy, as what an earlier build left in the checkout would be packed."""
    checkout = tmp_path_factory.mktemp("clone") / "coda_jax"
    checkout.mkdir()
    for file in FILES:
        shutil.copy(ROOT / file, checkout)
    for package in ("coda_jax", "experiments", "requirements"):
        shutil.copytree(ROOT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
    return checkout


@pytest.fixture(scope="module")
def wheel(checkout):
    """A wheel of the source distribution."""
    pack = "from setuptools import build_meta; print(build_meta.build_sdist('sources'))"
    subprocess.run([sys.executable, "-c", pack], cwd=checkout, check=True, capture_output=True)
    (sources,) = (checkout / "sources").iterdir()
    wheels = checkout / "wheels"
    build = [sys.executable, "-m", "pip", "wheel", sources, "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*build, "--wheel-dir", wheels], check=True)
    return next(wheels.glob("coda_jax-*.whl"))


def test_holds_the_library_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = (path for path in (ROOT / "coda_jax").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert packed == {path.relative_to(ROOT).as_posix() for path in files}
    assert packed >= {"coda_jax/py.typed", "coda_jax/pretrained_networks/digits/config.json"}


def test_imports_without_the_checkout(wheel, tmp_path):
    # `-I` leaves out PYTHONPATH and the directory, and a wheel is a zip file, from which Python imports.
    program = f"import sys; sys.path.insert(0, {str(wheel)!r}); import coda_jax; print(coda_jax.__file__)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.startswith(str(wheel))


def test_an_editable_install_is_found_from_the_folder_above_the_clone(checkout, tmp_path):
    # Python takes a folder `coda_jax` there for a package, unless a path of the installation leads to the real one.
    build = "import sys; from setuptools import build_meta; print(build_meta.build_editable(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=checkout, check=True, capture_output=True)
    (editable,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(editable) as archive:
        archive.extractall(tmp_path)
    program = (
        f"import importlib.util, site, sys; sys.path.insert(0, {str(checkout.parent)!r});"
        f"site.addsitedir({str(tmp_path)!r}); print(importlib.util.find_spec('coda_jax').origin)"
    )
    command = [sys.executable, "-I", "-S", "-c", program]  # -S: without the installation that the tests are of.
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(checkout / "coda_jax" / "__init__.py")


def test_pretrained_networks_are_installed(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:  # As it is installed.
        archive.extractall(tmp_path)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import coda_jax; print(coda_jax.load_pretrained('digits'))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Pretrained(model=CoDANet(")


@pytest.mark.slow
def test_the_core_is_light_and_explains_an_image(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    programs = tmp_path / "venv" / "bin"
    pip = [programs / "python", "-m", "pip", "--disable-pip-version-check"]
    constraints = ROOT / "constraints" / f"python{sys.version_info[0]}.{sys.version_info[1]}.txt"
    small = [*pip, "download", "--quiet", "--no-deps", "--retries=1", "--timeout=10", "--dest", tmp_path, "safetensors"]
    if subprocess.run(small, capture_output=True).returncode != 0:
        pytest.skip("needs a package registry, which pip cannot reach")
    subprocess.run([*pip, "install", "--quiet", "--no-compile", "--constraint", constraints, wheel], check=True)
    installed = subprocess.run([*pip, "list", "--format=freeze"], capture_output=True, text=True, check=True)
    assert len(installed.stdout.splitlines()) <= 35  # Few enough to be taken along.
    done = subprocess.run([programs / "python", "-I", "-c", EXPLAIN], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("explained\n", "")
    done = subprocess.run([programs / "coda-jax", "info", "digits"], capture_output=True, text=True, env={})
    assert done.stderr.startswith("error: coda_jax needs ") and done.stderr.count("\n") == 1


def test_the_citation_names_this_version():
    assert f"\nversion: {coda_jax.__version__}\n" in (ROOT / "CITATION.cff").read_text()
