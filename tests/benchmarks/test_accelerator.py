import json

import pytest

from benchmarks import accelerator


@pytest.mark.slow
def test_everything_runs_at_a_tiny_size(tmp_path, monkeypatch, capsys):
    # Without what takes longest to compile on a CPU, and has tests elsewhere: PyTorch, the fused kernel's gradients.
    monkeypatch.setattr(accelerator, "_programs", lambda platform: ["ours", "ours-fused"])
    tasks = {"ours": ("forward", "explain_all", "pipeline"), "ours-fused": ("forward",)}
    monkeypatch.setattr(accelerator, "TASKS_OF", tasks)
    monkeypatch.setattr(accelerator, "DTYPES", ("bfloat16",))
    monkeypatch.setattr(accelerator, "STOP_AFTER", float("inf"))  # However slow the machine is.
    accelerator.main(["--small", f"--out={tmp_path}"])
    printed = capsys.readouterr().out
    assert "are not those of a GPU" in printed
    assert "left out" not in printed
    results = json.loads((tmp_path / "accelerator.json").read_text())
    assert results["differences"]["ours-fused"]["forward"] <= accelerator.TOLERANCE
    measured = {(row["program"], row["task"]) for row in results["measured"]}
    assert measured == {(program, task) for program in tasks for task in tasks[program]}
    assert all(row["seconds"] > 0 for row in results["measured"])
