import json

from benchmarks import scaling


def test_growth_is_measured_and_predicted(tmp_path, monkeypatch, capsys):
    base = {"image_size": 8, "batch": 2, "rank": 2, "width": 3, "depth": 1, "classes": 4}
    monkeypatch.setattr(scaling, "BASE", base)
    monkeypatch.setattr(scaling, "SWEEPS", {"batch": (1, 2)})
    scaling.main([f"--out={tmp_path}"])
    assert "Growth with the batch" in capsys.readouterr().out
    rows = json.loads((tmp_path / "scaling.json").read_text())["sweeps"]["batch"]
    assert [row["batch"] for row in rows] == [1, 2]
    assert all(row["forward_seconds"] > 0 and row["train_flops"] == 3 * row["forward_flops"] for row in rows)
    assert rows[1]["forward_flops"] > rows[0]["forward_flops"]
