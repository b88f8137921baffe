import json

import pytest

from coda_jax import CoDANet
from tests.command_line.conftest import ATTRIBUTES


def test_info(trained, command):
    status, out, err = command("info", trained)
    assert status == 0, err
    lines = out.splitlines()
    # A, B and b of layer 0: 54 inputs, rank 4, 6 units; of layer 1: 6 inputs, rank 4, 3 units.
    parameters = 54 * 4 + 54 * 6 * 4 + 54 * 6 + 6 * 4 + 6 * 3 * 4 + 6 * 3
    assert lines[0] == f"{trained}: a CoDA-Net of 2 layers and {parameters:,} parameters"
    assert lines[3].split() == ["0", "6", "4", "3×3", "1", "1"]
    assert "images: 8×8 pixels, RGB" in lines
    assert lines[-1] == "3 classes: cat, dog, <b>\N{REPLACEMENT CHARACTER}[31m"

    assert json.loads(command("info", trained, "--json")[1]) == {
        "network": str(trained),
        "title": CoDANet(**ATTRIBUTES, temperature=2.0).title,
        "parameters": parameters,
        "temperature": 2.0,
        "logit_bias": pytest.approx(-2.1972, abs=1e-4),
        "dtype": "float32",
        "class_names": ["cat", "dog", "<b>\x1b[31m"],
        "preprocessing": {"size": 8, "shorter_side": 8, "grey": False},
    }


def test_a_hybrid(hybrid, command):
    status, out, err = command("info", hybrid)
    assert status == 0, err
    lines = out.splitlines()
    # Convolutions and batch normalisations of the stem and two blocks, 6 → 16 → 16 → 32 channels; a patch of 288
    # features, rank 4 and 6 units, and the last layer as above.
    trunk = 9 * (6 * 16 + 2 * 16 * 16 + 16 * 32 + 32 * 32) + 2 * (3 * 16 + 2 * 32)
    head = 288 * 4 + 288 * 6 * 4 + 288 * 6 + 6 * 4 + 6 * 3 * 4 + 6 * 3
    expected = (
        f"ResNetTrunk of {trunk:,} parameters, and on its features a CoDA-Net of 2 layers and {head:,} parameters"
    )
    assert lines[0] == f"{hybrid}: {expected}"
    assert lines[3].split() == ["0", "6", "4", "3×3", "1", "1"]


def test_a_bcos_network(bcos, command):
    status, out, err = command("info", bcos)
    assert status == 0, err
    # Three 3×3 layers with a norm for each of the four units, and the last layer.
    parameters = 9 * (6 * 4 + 4 * 4 + 4 * 4) + 3 * 4 + 4 * 3
    assert out.splitlines()[:2] == [
        f"{bcos}: a B-cos ResNet-4 of {parameters} parameters",
        "B 2, maxout 1, temperature 1, logit bias -0.6931, float32",
    ]
