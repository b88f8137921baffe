import argparse
import json
import time

import pytest

from benchmarks import gpu_speed
from benchmarks.timing import TaskError

RATES = {"bytes_per_second": 1e10, "bfloat16": 4e11, "tf32": 2e11, "float32": 1e11}


@pytest.fixture
def options(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_speed, "_rates", lambda: RATES)
    monkeypatch.setattr(gpu_speed, "_start_peers", lambda options: {})
    return argparse.Namespace(network="tiny", batch_sizes=[2], out=tmp_path)


def results(options):
    return [json.loads(line) for line in (options.out / "results.jsonl").read_text().splitlines()]


def test_our_programs_are_measured(options, monkeypatch):
    monkeypatch.setattr(gpu_speed, "CASES", [("bfloat16", "train"), ("float32", "explain_all")])
    assert gpu_speed.speed(options, time.monotonic() + 1e6)
    rates, train, explain = results(options)
    assert rates["float32"] == 1e11
    for found in (train, explain):
        assert found["program"] == "coda_jax" and found["memory_mb"] > 0 and found["share_of_memory"] > 0
        assert found["images_per_second"] * found["ms"] == pytest.approx(2 * 1000)
    # 28,736 parameters, and as many values twice in Adam's state, of 4 bytes each.
    assert train["memory_mb"] > 3 * 4 * 28_736 / 1e6


def test_what_is_slow_or_fails_is_told(options, monkeypatch):
    def ours(options, precision, task, batch_size):
        if precision == "tf32":
            raise ValueError("cannot be compiled")
        if task == "forward":
            raise TaskError("no memory")
        seconds = 0.5 if task == "train" else 0.25
        return gpu_speed.Program(lambda calls: (seconds, 8_000_000), moved=10**9)

    class Peer:
        def prepare(self, task, batch_size, until, deadline):
            return gpu_speed.Program(lambda calls: (1.0, None))

    monkeypatch.setattr(gpu_speed, "_ours", ours)
    monkeypatch.setattr(gpu_speed, "_start_peers", lambda options: {"PyTorch": dict.fromkeys(RATES, Peer())})
    monkeypatch.setattr(gpu_speed, "CASES", [("bfloat16", "train"), ("float32", "forward"), ("tf32", "train")])
    assert gpu_speed.speed(options, time.monotonic() + 1e6)
    _, ours, peer, no_memory, _, not_compiled, _ = results(options)
    case = {"phase": "speed", "task": "train", "batch_size": 2, "precision": "bfloat16"}
    assert peer == case | {"program": "PyTorch", "ms": 1000, "images_per_second": 2}
    assert ours["times_PyTorch"] == 2 and ours["memory_mb"] == 8
    # 10⁹ bytes at 10¹⁰ a second are a fifth of half a second.
    assert ours["share_of_memory"] == pytest.approx(0.2)
    assert no_memory["left_out"] == "no memory" and not_compiled["left_out"] == "cannot be compiled"


def test_what_there_is_no_time_for_is_told(options, monkeypatch):
    monkeypatch.setattr(gpu_speed, "_ours", lambda *_: gpu_speed.Program(lambda calls: (1.0, None)))
    assert gpu_speed.speed(options, time.monotonic())
    _, *found = results(options)
    assert [(each["precision"], each["task"]) for each in found] == gpu_speed.CASES
    assert all(each["left_out"] == "for want of time" for each in found)


@pytest.mark.slow
def test_a_peer_answers_until_its_time_is_over(options):
    pytest.importorskip("torch")
    peer = gpu_speed.Peer(options, "float32", compiled=False)
    program = peer.prepare("forward", 2, until=time.monotonic() + 1e6, deadline=time.monotonic() + 1e6)
    assert program.seconds(1)[0] > 0
    with pytest.raises(TaskError, match="TypeError: .str. object"):
        peer.seconds(None, "two", time.monotonic() + 1e6, 1)
    with pytest.raises(TaskError, match="takes too long"):
        peer.seconds("train", 2, time.monotonic(), 1)
    peer.process.join()
    with pytest.raises(TaskError, match="its process ended"):
        program.seconds(1)
