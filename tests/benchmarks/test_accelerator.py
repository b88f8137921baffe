import argparse
import json
import math

import numpy as np
import pytest

from benchmarks import accelerator


def results(directory):
    return [json.loads(line) for line in (directory / "results.jsonl").read_text().splitlines()]


@pytest.fixture
def phases(monkeypatch):
    """The phases that were run with the seconds that each had since the first began; none of them does anything."""
    found = []

    def run_phase(phase, options, deadline):
        found.append((phase.__name__, deadline))
        return phase.__name__ != found_wrong

    found_wrong = "none"

    def fail(name):
        nonlocal found_wrong
        found_wrong = name

    monkeypatch.setattr(accelerator, "run_phase", run_phase)
    monkeypatch.setattr(accelerator.time, "monotonic", lambda: 1000.0)
    monkeypatch.setattr(accelerator.signal, "signal", lambda *_: None)
    return argparse.Namespace(found=found, fail=fail)


def test_the_phases_share_the_time(phases, tmp_path):
    (tmp_path / "data").touch()
    accelerator.main([f"--data={tmp_path / 'data'}", f"--out={tmp_path}", "--seconds=100"])
    assert phases.found == [("agreement", 1020), ("speed", 1060), ("training", 1100)]
    assert results(tmp_path) == [{"phase": "end", "seconds": 0}]


def test_the_other_phases_are_done_when_one_finds_something_wrong(phases, tmp_path):
    (tmp_path / "data").touch()
    phases.fail("agreement")
    with pytest.raises(SystemExit, match=r"error: not all is well: see .*results.jsonl"):
        accelerator.main([f"--data={tmp_path / 'data'}", f"--out={tmp_path}"])
    assert [name for name, _ in phases.found] == ["agreement", "speed", "training"]


def test_without_data_nothing_begins(phases, tmp_path, capsys):
    with pytest.raises(SystemExit):
        accelerator.main([f"--data={tmp_path / 'none'}", f"--out={tmp_path / 'out'}"])
    assert "there is no file" in capsys.readouterr().err
    assert not phases.found and not (tmp_path / "out").exists()


def test_parameters_are_left_in_small_files(tmp_path, monkeypatch):
    monkeypatch.setattr(accelerator, "MOST_BYTES", 100)
    params = {
        "layers_0": {"A": np.arange(20, dtype=np.float32).reshape(4, 5), "b": np.ones(3, np.float32)},
        "layers_1": {"A": np.zeros((2, 3), np.float32), "b": np.full(40, 7, np.float32)},
    }
    accelerator.write_parameters(tmp_path / "epoch-001", params)
    accelerator.write_parameters(tmp_path / "epoch-002", params)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-002"]
    # 80 and 12 bytes; 24; and 160, which are too many for a file, but one array's.
    files = sorted((tmp_path / "epoch-002").iterdir())
    assert [path.name for path in files] == [f"parameters-{number}.safetensors" for number in range(3)]
    found = accelerator.read_parameters(tmp_path / "epoch-002")["params"]
    for layer, arrays in params.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[layer][name], array)


def test_training_tells_and_keeps_every_epoch(tmp_path, monkeypatch):
    def fit(model, train, test, *, seconds, batch_size, after_epoch, **settings):
        assert (train, test, seconds, batch_size) == ("train", "test", 1098 - 1000, 16)
        for epoch in (1, 2):
            params = {"layers_0": {"A": np.full(2, epoch, np.float32)}}
            after_epoch(epoch, {"loss": 0.5, "test_accuracy": epoch / 4}, {"params": params})

    monkeypatch.setattr(accelerator, "fit", fit)
    monkeypatch.setattr(accelerator.time, "monotonic", lambda: 1000.0)
    monkeypatch.setattr(accelerator.encoded_cifar10, "read", lambda path: ("train", "test"))
    options = argparse.Namespace(network="tiny", batch_sizes=[16, 4], data=None, out=tmp_path)
    assert accelerator.training(options, 1100)
    about, first, second = results(tmp_path)
    assert about["batch_size"] == 16 and math.isclose(about["seconds"], 98)
    assert (first["test_accuracy"], second["test_accuracy"], second["epoch"]) == (0.25, 0.5, 2)
    assert accelerator.read_parameters(tmp_path / "epoch-002")["params"]["layers_0"]["A"].tolist() == [2, 2]
