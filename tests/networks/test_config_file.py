import json

import pytest

from coda_jax import InputError
from coda_jax.data import DatasetInfo, Preprocessing
from coda_jax.networks.config_file import load_config, save_config

CONFIG = {"dataset": "digits", "model": {"channels": (1, 2), "norm": "sq"}}
READ = {"dataset": "digits", "model": {"channels": [1, 2], "norm": "sq"}}  # JSON makes lists of tuples.
INFO = DatasetInfo(("cat", "dog <b>"), Preprocessing(size=32, shorter_side=36))
ENTRIES = {
    "class_names": ["cat", "dog <b>"],
    "preprocessing": {"size": 32, "shorter_side": 36, "grey": False},
}


@pytest.mark.parametrize("info", [INFO, None])
def test_everything_comes_back(tmp_path, info):
    save_config(tmp_path / "some" / "run", CONFIG, info)
    assert load_config(str(tmp_path / "some" / "run")) == (READ, info)


def test_layout(tmp_path):
    save_config(tmp_path, CONFIG, INFO, b"weights")
    assert (tmp_path / "model.safetensors").read_bytes() == b"weights"
    checksum = "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"
    assert json.loads((tmp_path / "config.json").read_text()) == READ | ENTRIES | {"weights_sha256": checksum}


def test_runs_of_former_versions(tmp_path):
    """They had the classes and the images in a file of their own."""
    save_config(tmp_path, CONFIG)
    (tmp_path / "dataset.json").write_text(json.dumps(ENTRIES))
    assert load_config(tmp_path) == (READ, INFO)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(InputError, match="dataset.json is damaged .*: put back a copy"):
        load_config(tmp_path)
    save_config(tmp_path, CONFIG, INFO)  # As when such a run goes on.
    assert load_config(tmp_path) == (READ, INFO)


FORMER = {
    "model_type": "coda_net",
    "architectures": ["CoDANet"],
    "channels": [1, 2],
    "norm": "sq",
    "id2label": {"1": "dog <b>", "0": "cat"},
    "label2id": {"cat": 0, "dog <b>": 1},
    "preprocessing": ENTRIES["preprocessing"],
    "weights_sha256": "12ab",
}


def test_published_networks_of_former_versions(tmp_path):
    """They had the network's attributes beside the other entries, and the classes in two others."""
    write(tmp_path, FORMER)
    expected = {"model": {"channels": [1, 2], "norm": "sq"}, "weights_sha256": "12ab"}
    assert load_config(tmp_path) == (expected, INFO)
    undescribed = {name: FORMER[name] for name in FORMER if name not in ("id2label", "label2id", "preprocessing")}
    write(tmp_path, undescribed)
    assert load_config(tmp_path) == (expected, None)
    write(tmp_path, FORMER | {"id2label": {"0": "cat", "2": "dog"}})
    with pytest.raises(InputError, match=r"config.json is damaged \(class_names must be a list of names\)"):
        load_config(tmp_path)


def write(directory, content):
    (directory / "config.json").write_text(json.dumps(content))


def test_missing_and_damaged(tmp_path):
    with pytest.raises(InputError, match=f"there is no run in {tmp_path}: it has no config.json"):
        load_config(tmp_path)
    for content in (b"", b"{", b"\xff"):
        (tmp_path / "config.json").write_bytes(content)
        with pytest.raises(InputError, match="config.json is damaged .*: put back a copy, or use another directory"):
            load_config(tmp_path)
    for content in ([], 3, {}, {"model": 3}, {"model_type": "vit", "channels": [3]}):
        write(tmp_path, content)
        with pytest.raises(InputError, match=r'config.json is damaged \(it has no "model"\)'):
            load_config(tmp_path)
    for change in (
        {"class_names": "cat"},
        {"class_names": [1]},
        {"preprocessing": {"size": 32}},
        {"preprocessing": {"size": 32, "shorter_side": 31, "grey": False}},
        {"preprocessing": {"size": "32", "shorter_side": 32, "grey": False}},
        {"preprocessing": None},
    ):
        write(tmp_path, READ | ENTRIES | change)
        with pytest.raises(
            InputError, match=r"config.json is damaged \((class_names|preprocessing|shorter_side|size) "
        ):
            load_config(tmp_path)
