import re

from coda_jax.training import progress


def test_plain_lines_with_rate_and_time_left(capsys, monkeypatch):
    times = iter([0.0, 2.0, 4.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    counter = progress.Progress(total=1000, done=100)
    counter.tell("begin")
    counter.advance(400)
    counter.tell("half")  # 400 images in 2 s; 500 are left.
    counter.advance(100)
    counter.tell("more")  # 500 in 4 s; 400 are left.
    counter.close()
    expected = "begin\nhalf  200 images/s  00:02 left\nmore  125 images/s  00:03 left\n"
    assert capsys.readouterr().err == expected


def test_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    counter = progress.Progress(total=1000, done=0)
    counter.advance(500)
    counter.tell("half")
    counter.close()
    shown = capsys.readouterr().err
    assert "half\n" in shown
    assert re.search(r"\|[^|]+\| 500/1\.00k .* images/s\]", shown)
