import json
import os

import pytest

from benchmarks import weak_scaling
from benchmarks.worker import TINY_NETWORK
from coda_jax import CoDANet

needs_linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")


@needs_linux
@pytest.mark.slow
def test_two_processes_train_one_network():
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    measured = weak_scaling._run(2, ["--small", "--batch_size=2"], connected=True)
    assert measured["averaged_over"] == 2
    assert measured["step_seconds"] > 0 and measured["all_reduce_seconds"] > 0
    # Layers of 4 and 10 units, ranks 4 and 8, patches of 54 and 4 values: B, A and b. In a ring of two each sends all.
    parameters = 54 * 4 * (1 + 4 + 1) + 4 * (8 + 8 * 10 + 10)
    assert CoDANet(**TINY_NETWORK).channels == (4, 10)
    assert measured["sent_bytes"] == 4 * parameters


@needs_linux
def test_table_and_file(tmp_path, monkeypatch, capsys):
    def run(count, flags, connected):
        assert flags == ["--batch_size=3"]
        all_reduce = {"all_reduce_seconds": 0.5, "sent_bytes": 1e6} if connected else {}
        return {"step_seconds": 1.0 + connected, "all_reduce_seconds": None, "sent_bytes": None, **all_reduce}

    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    monkeypatch.setattr(weak_scaling, "_run", run)
    weak_scaling.main([f"--out={tmp_path}", "--batch_size=3"])
    assert "one network" in capsys.readouterr().out
    rows = json.loads((tmp_path / "weak_scaling.json").read_text())["cases"]
    assert [(row["processes"], row["step_seconds"]) for row in rows] == [(1, 1.0), (2, 1.0), (2, 2.0)]
