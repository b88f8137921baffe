import errno
import os
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from coda_jax.errors import RunError
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


def test_tensorboard_shows_them(tmp_path):
    write(tmp_path, [3, 4], start=2)
    (file,) = (tmp_path / "tensorboard").iterdir()
    events = list(read_events(file.read_bytes()))
    assert [event.step for event in events if event.HasField("session_log")] == [3]
    shown = [(event.step, value.tag, value.simple_value) for event in events for value in event.summary.value]
    assert shown == [(3, "loss", 0.375), (4, "loss", 0.5)]


def read_events(records):
    # A record is the length of its data, in eight bytes, a checksum of four, the data, and a checksum of four.
    while records:
        (length,) = struct.unpack("<Q", records[:8])
        yield Event.FromString(records[12 : 12 + length])
        records = records[16 + length :]


def test_a_full_disk_is_told_once(tmp_path, monkeypatch):
    log = MetricsLog(tmp_path, 0)

    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RunError, match="No space left on device"):
        log.write(1, {"loss": 1.0})
    log.close()


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
