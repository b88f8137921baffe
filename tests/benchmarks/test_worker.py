import sys

import numpy as np
import pytest

from benchmarks.timing import TaskError
from benchmarks.worker import differences, workers


@pytest.fixture(scope="module")
def worker():
    with workers(["ours"], ["--network=tiny"]) as (started,):
        yield started


def test_answers_follow_requests(worker, tmp_path):
    worker.send("forward", 2, 3, tmp_path / "logits.npy")
    answer = worker.receive()
    assert answer["seconds"] > 0
    assert (answer["bytes"] is not None) == (sys.platform == "linux")
    assert np.load(tmp_path / "logits.npy").shape == (2, 10)


def test_what_fails_is_told_and_the_next_request_answered(worker):
    with pytest.raises(TaskError, match="ours: dance of 2: KeyError"):
        worker.seconds("dance", 2)
    assert worker.seconds("forward", 2) > 0


def test_a_dead_process_is_told():
    with workers(["ours"], ["--dtype=nonsense"]) as (dead,):
        with pytest.raises(TaskError, match="ours: its process ended"):
            dead.seconds("forward", 2)


def test_differences(worker, tmp_path):
    class Off:
        """Answers twice what the worker answers."""

        program = "off"

        def send(self, task, batch_size, calls, file):
            worker.send(task, batch_size, calls, file)
            self.file = file

        def receive(self):
            answer = worker.receive()
            np.save(self.file, 2 * np.load(self.file))
            return answer

    assert differences([worker, Off()], "explain", 2, tmp_path) == {"off": 1.0}
