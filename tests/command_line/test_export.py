from pathlib import Path

import jax
import numpy as np
import pytest

from coda_jax import add_inverse, from_pretrained, load
from coda_jax.interop.torch import load_checkpoint


def test_jax(trained, command, tmp_path):
    status, out, err = command("export", trained, "--out", tmp_path / "network.jax")
    assert (status, out) == (0, f"{tmp_path / 'network.jax'}\n"), err
    images = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    logits, maps = jax.export.deserialize(Path(out.strip()).read_bytes()).call(images)
    model, variables, _ = load(trained)
    # Both are sums of some hundred float32 terms of order 1, in another order.
    np.testing.assert_allclose(logits, jax.jit(model.apply)(variables, add_inverse(images)), atol=1e-5)
    np.testing.assert_allclose(maps.sum((2, 3)) + model.logit_bias, logits, atol=1e-5)


def test_safetensors(trained, command, tmp_path):
    status, out, err = command("export", trained, "--format=safetensors", "--out", tmp_path / "kept")
    assert status == 0, err
    kept = from_pretrained(tmp_path / "kept")
    assert kept.info == load(trained).info
    jax.tree.map(np.testing.assert_array_equal, kept.variables, load(trained).variables)
    # What was written is a RUN for the other commands.
    status, out, err = command("info", tmp_path / "kept")
    assert status == 0 and "3 classes: cat, dog" in out, err
    status, _, err = command("evaluate", tmp_path / "kept")
    assert (
        status == 1
        and err == f"error: {tmp_path / 'kept'} says nothing of its data: name a folder of images, --images=DIR\n"
    )


def test_pytorch(trained, command, tmp_path):
    pytest.importorskip("torch")
    status, _, err = command("export", trained, "--format=pytorch", "--out", tmp_path / "network.pkl")
    assert status == 0, err
    _, variables = load_checkpoint(tmp_path / "network.pkl", strides=(1, 1), paddings=(1, 0))
    jax.tree.map(np.testing.assert_array_equal, variables, load(trained).variables)


def test_mistakes(trained, command, tmp_path):
    (tmp_path / "file").write_text("")
    for arguments, line in (
        ((tmp_path / "none",), "there is no run in"),
        ((trained, "--format=onnx"), "argument --format: invalid choice: 'onnx'"),
        ((trained, "--out", tmp_path / "file" / "network.jax"), "cannot write to"),
    ):
        status, out, err = command("export", *arguments)
        assert (status, out, err.count("\n")) == (1, "", 1) and err.startswith(f"error: {line}"), err


@pytest.mark.parametrize("format", ["jax", "safetensors", "pytorch"])
def test_hybrids_are_refused(hybrid, command, tmp_path, format):
    status, out, err = command("export", hybrid, f"--format={format}", "--out", tmp_path / "out")
    assert (status, out, err) == (1, "", "error: model must be a CoDANet or BcosResNet, not HybridNet\n")
    assert not (tmp_path / "out").exists()
