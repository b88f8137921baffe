import sys

import jax
import numpy as np
import pytest
from PIL import Image

from coda_jax import load
from coda_jax.interop.torch import load_checkpoint
from coda_jax.networks.config_file import load_config
from tests.golden import TOLERANCE, assert_close, golden_inputs

OWN = ("--temperature=8", "--strides=1,1", "--paddings=1,0", "--size=8", "--classes=cat,dog,cow")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A file of the authors' layout: layers of 6 and 3 units."""
    torch = pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("checkpoint") / "model.pkl"
    rng = np.random.default_rng(0)
    shapes = {
        "0.weight_mod.weighting_f.0.weight": (4, 6, 3, 3),
        "0.weight_mod.weighting_f.1.weight": (6 * 9 * 6, 4, 1, 1),
        "0.weight_mod.weighting_f.1.bias": (6 * 9 * 6,),
        "1.weight_mod.weighting_f.0.weight": (4, 6, 1, 1),
        "1.weight_mod.weighting_f.1.weight": (6 * 3, 4, 1, 1),
        "1.weight_mod.weighting_f.1.bias": (6 * 3,),
    }
    arrays = {name: torch.tensor(rng.normal(size=shape).astype(np.float32)) for name, shape in shapes.items()}
    torch.save(arrays, path)
    return path


def test_the_run_holds_the_network(checkpoint, command, tmp_path):
    run = tmp_path / "run"
    status, out, err = command("convert", checkpoint, run, *OWN)
    assert status == 0, err
    model, variables, _ = load(run)
    expected, arrays = load_checkpoint(checkpoint, strides=[1, 1], paddings=[1, 0], temperature=8.0)
    assert model == expected.clone(dtype="float32", param_dtype="float32")
    for layer, parameters in arrays["params"].items():
        for name, array in parameters.items():
            np.testing.assert_array_equal(variables["params"][layer][name], array)
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    status, out, err = command("explain", run, tmp_path / "red.png", "--out", tmp_path / "out")
    assert status == 0 and " cow " in out, err


def test_the_papers_architecture_brings_what_is_not_in_the_file(golden, command, tmp_path):
    torch = pytest.importorskip("torch")
    arrays = golden("sq_9layer_rank4")
    names = [name for name in arrays if name.startswith("state_dict/")]
    state = {name.removeprefix("state_dict/"): torch.tensor(arrays[name]) for name in names}
    torch.save(state, tmp_path / "model.pkl")
    temperature = f"--temperature={arrays['config']['temperature']}"
    status, _, err = command("convert", tmp_path / "model.pkl", tmp_path / "run", temperature)
    assert status == 0, err
    model, variables, info = load(tmp_path / "run")
    logits = jax.jit(model.apply)(variables, golden_inputs(arrays, np.float32))
    assert_close(logits, arrays["logits"], TOLERANCE[np.float32])
    assert info.class_names[3] == "cat" and info.preprocessing.size == 32
    assert load_config(tmp_path / "run")[0]["dataset"] == "cifar10"


def test_without_pytorch(command, tmp_path, monkeypatch, trained):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "model.pkl").write_bytes(b"")
    for arguments, line in (
        (
            ("convert", tmp_path / "model.pkl", tmp_path / "run", *OWN),
            f"reading {tmp_path / 'model.pkl'} needs PyTorch: install torch",
        ),
        (
            ("convert", tmp_path / "none.pkl", tmp_path / "run", *OWN),
            f"there is no checkpoint at {tmp_path / 'none.pkl'}",
        ),
        (
            ("export", trained, "--format=pytorch"),
            f"writing {trained / 'network.pkl'} needs PyTorch: install torch",
        ),
    ):
        status, out, err = command(*arguments)
        assert (status, out, err.count("\n")) == (1, "", 1) and err.startswith(f"error: {line}"), err


def test_mistakes(checkpoint, command, tmp_path):
    run = tmp_path / "run"
    for arguments, line in (
        ((tmp_path / "none.pkl", run, *OWN), "there is no checkpoint at"),
        ((checkpoint, run, "--strides=1,1"), "the following arguments are required: --temperature"),
        ((checkpoint, run, *OWN, "--strides=1,x"), "argument --strides: invalid"),
        ((checkpoint, run, *OWN, "--strides=1"), "every list must have one value a layer"),
        ((checkpoint, run, *OWN, "--classes=cat"), "--classes names 1 classes, but the network has 3"),
        ((checkpoint, run, *OWN, "--size=0"), "--size must be at least 1, not 0"),
        ((checkpoint, run, *OWN, "--norm=l3"), "argument --norm: invalid choice: 'l3'"),
    ):
        status, out, err = command("convert", *arguments)
        assert (status, out, err.count("\n")) == (1, "", 1) and err.startswith(f"error: {line}"), err
        assert not run.exists()
    assert command("convert", checkpoint, run, *OWN)[0] == 0
    status, _, err = command("convert", checkpoint, run, *OWN)
    assert status == 1 and "holds a run already: name a new directory" in err
