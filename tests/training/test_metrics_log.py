from coda_jax.training.metrics_log import MetricsLog, read_metrics


def write(directory, steps, start=0):
    log = MetricsLog(directory, start)
    for step in steps:
        log.write(step, {"loss": step / 8})
    log.close()


def test_records_come_back(tmp_path):
    write(tmp_path / "run", [1, 2])
    expected = [{"step": 1, "loss": 0.125}, {"step": 2, "loss": 0.25}]
    assert read_metrics(tmp_path / "run" / "metrics.jsonl") == expected
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1


def test_what_came_after_the_resumed_step_is_dropped(tmp_path):
    write(tmp_path, [1, 2, 3])
    write(tmp_path, [3, 4], start=2)
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]


def test_an_unfinished_line_is_left_out(tmp_path):
    write(tmp_path, [1])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [1]


def test_no_file(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []
