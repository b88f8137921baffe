import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jax
import numpy as np
import pytest

from coda_jax import CoDANet, InputError, add_inverse
from coda_jax.alignment import chunks
from coda_jax.contributions import contribution_map, contributions
from coda_jax.data import DatasetInfo, Preprocessing
from coda_jax.interop.export import export
from coda_jax.networks.bcos_resnet import BcosResNet
from tests.parameters import random_variables

MODEL = CoDANet((4, 10), (3, 4), (3, 1), (2, 1), (1, 0), temperature=5.0)
INFO = DatasetInfo(tuple(f"digit {digit}" for digit in range(10)), Preprocessing(8, 8, grey=True))
IMAGES = np.random.default_rng(0).random((3, 8, 8, 3)).astype(np.float32)
PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
# What `pip install jax flatbuffers` installs.
SERVING = ("jax", "jaxlib", "numpy", "ml_dtypes", "opt_einsum", "scipy", "flatbuffers")


@pytest.fixture(scope="module")
def variables():
    return random_variables(MODEL)


@pytest.fixture(scope="module")
def file(tmp_path_factory, variables):
    path = tmp_path_factory.mktemp("served") / "digits.jax"
    export(MODEL, variables, path, image_size=8, info=INFO)
    return path


def expected(model, variables, images):
    """Logits and maps, by the library."""
    inputs = add_inverse(images)
    maps = contribution_map(contributions(model, variables, inputs, "all"))
    return jax.jit(model.apply)(variables, inputs), maps


def assert_as_the_library(model, variables, images, logits, maps):
    # The same operations in float32, compiled otherwise.
    for found, wanted in zip((logits, maps), expected(model, variables, images), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())
    np.testing.assert_allclose(maps.sum((2, 3)) + model.logit_bias, logits, rtol=0, atol=1e-6 * np.abs(logits).max())


@pytest.mark.precision
def test_one_file_for_three_platforms_and_any_number_of_images(file, variables):
    exported = jax.export.deserialize(file.read_bytes())
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert str(exported.in_avals[0].shape) == "(N, 8, 8, 3)"
    for count in (1, 3):
        logits, maps = exported.call(IMAGES[:count])
        assert (logits.shape, maps.shape) == ((count, 10), (count, 10, 8, 8))
        assert_as_the_library(MODEL, variables, IMAGES[:count], logits, maps)


def test_asks_for_nothing_but_exact_products_on_any_platform(file):
    program = jax.export.deserialize(file.read_bytes()).mlir_module()
    # The check of the number of images, which JAX resolves on every platform.
    assert set(re.findall(r"custom_call @(\w+)", program)) == {"shape_assertion"}
    # TPUs would round the factors to 8 bits otherwise.
    products = [line for line in program.splitlines() if "stablehlo.dot_general" in line]
    assert any("tensor<?x" in line for line in products)  # Of all images at once; a CPU's are of one.
    assert not all("tensor<?x" in line for line in products)
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)


def test_accelerators_branch_gives_the_same(variables, monkeypatch, tmp_path):
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, cpu, default: default(*args))
    for most in (2**26, 1):  # All images at once; one at a time, in each layer.
        monkeypatch.setitem(chunks._MOST_VALUES, "default", most)
        export(MODEL, variables, tmp_path / "network", image_size=8)
        exported = jax.export.deserialize((tmp_path / "network").read_bytes())
        assert ("stablehlo.while" in exported.mlir_module()) == (most == 1)
        assert_as_the_library(MODEL, variables, IMAGES, *exported.call(IMAGES))


@pytest.mark.precision
@pytest.mark.parametrize("changes", [{"norm": "l2"}, {"dtype": "bfloat16"}], ids=str)
def test_other_networks(tmp_path, variables, changes):
    model = MODEL.clone(**changes)
    export(model, variables, tmp_path / "network", image_size=8)
    logits, maps = jax.export.deserialize((tmp_path / "network").read_bytes()).call(IMAGES)
    assert os.listdir(tmp_path) == ["network"]
    if "dtype" in changes:
        # bfloat16 keeps 8 bits: 2⁻⁹ relative at each of about five roundings a layer.
        wanted = expected(MODEL, variables, IMAGES)[0] - MODEL.logit_bias
        np.testing.assert_allclose(logits - MODEL.logit_bias, wanted, rtol=0, atol=2e-2 * np.abs(wanted).max())
    else:
        assert_as_the_library(model, variables, IMAGES, logits, maps)


@pytest.mark.precision
def test_a_b_cos_network(tmp_path):
    model = BcosResNet(blocks=(1, 1), num_classes=10, width=4, small_images=True)
    variables = random_variables(model)
    export(model, variables, tmp_path / "network", image_size=8, info=INFO)
    for count in (1, 3):
        logits, maps = jax.export.deserialize((tmp_path / "network").read_bytes()).call(IMAGES[:count])
        assert maps.shape == (count, 10, 8, 8) and np.ptp(logits, axis=1).min() > 1e-3
        assert_as_the_library(model, variables, IMAGES[:count], logits, maps)


def test_parameters_are_in_the_file_once(tmp_path):
    model = CoDANet((40,), (32,), (3,), (1,), (1,))
    variables = random_variables(model)
    export(model, variables, tmp_path / "network", image_size=8)
    size = sum(4 * array.size for array in jax.tree.leaves(jax.eval_shape(model.with_gram, variables)))
    assert size < (tmp_path / "network").stat().st_size < size + 100_000


def test_names_of_the_classes_are_beside_it(file):
    assert sorted(os.listdir(file.parent)) == ["digits.jax", "digits.jax.json"]
    assert json.loads((file.parent / "digits.jax.json").read_text()) == {
        "class_names": list(INFO.class_names),
        "preprocessing": {"size": 8, "shorter_side": 8, "grey": True},
    }


def serving_example():
    """The program in docs/formats.md that reads an exported file."""
    (found,) = [
        example
        for example in re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
        if "deserialize" in example
    ]
    return found


@pytest.fixture(scope="module")
def only_jax(tmp_path_factory):
    """A directory of links to JAX and what it needs, and to nothing else that is installed."""
    directory = tmp_path_factory.mktemp("packages")
    for name in SERVING:
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            (directory / top).symlink_to(Path(distribution.locate_file(top)).resolve())
    return directory


def test_served_without_flax_and_coda_jax(file, variables, only_jax):
    np.save(file.parent / "images.npy", IMAGES)
    program = f"""
import sys
sys.path.append({str(only_jax)!r})
for name in ("flax", "coda_jax", "orbax", "optax"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(name + " is there")
{serving_example()}
logits, maps = explain(np.load("images.npy"))
np.savez("served.npz", logits=logits, maps=maps)
assert not {{"flax", "coda_jax"}} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        cwd=file.parent,
        env={"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    for line in lines:
        name, logit, contributed = re.fullmatch(r"(digit \d) (\S+) (\S+)", line).groups()
        assert float(logit) - float(contributed) == pytest.approx(MODEL.logit_bias, abs=1e-5)  # As printed.
    with np.load(file.parent / "served.npz") as served:
        assert_as_the_library(MODEL, variables, IMAGES, served["logits"], served["maps"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variables": {}}, "variables must be a mapping with the collection"),
        ({"model": MODEL.clone(ranks=(2, 4))}, "variables must have params/layers_0/A of shape"),
        ({"path": 3}, "path must be a path, not 3"),
        ({"image_size": (8, 8)}, "image_size must be a whole number"),
        ({"image_size": 0}, "image_size must be at least 1"),
        (
            {"model": MODEL.clone(paddings=(0, 0)), "image_size": 2, "info": None},
            "a kernel of 3 does not fit into 2 pixels",
        ),
        ({"info": ("cat",)}, "info must be a DatasetInfo or None"),
        ({"info": INFO._replace(class_names=("cat",))}, "info has 1 class_names, but the network 10 classes"),
        ({"image_size": 9}, "image_size is 9, but info is of images of 8 pixels"),
    ],
)
def test_bad_arguments(tmp_path, variables, changes, message):
    good = {"model": MODEL, "variables": variables, "path": tmp_path / "network", "image_size": 8, "info": INFO}
    with pytest.raises(InputError, match=message):
        export(**good | changes)
    assert os.listdir(tmp_path) == []


def test_path_that_cannot_be_written(tmp_path, variables):
    with pytest.raises(InputError, match="it is a directory"):
        export(MODEL, variables, tmp_path, image_size=8)
