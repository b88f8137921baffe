import time

import pytest

from benchmarks.timing import TaskError, medians, print_table, ratio, seconds_of


def test_seconds_of_a_call():
    assert 0.02 <= seconds_of(lambda: time.sleep(0.02)) < 10


def test_jobs_run_in_turn_and_warm_ups_do_not_count():
    order = []

    def job(name, times):
        times = iter(times)

        def run():
            order.append(name)
            return next(times)

        return run

    assert medians([job("a", [9, 9, 1, 5, 3]), job("b", [9, 9, 2, 2, 7])], rounds=3) == [3, 2]
    assert order == ["a", "b"] * 5


def test_a_failing_job_is_told_and_left_out(capsys):
    def fail():
        raise TaskError("out of memory")

    assert medians([fail, lambda: 1.0], rounds=2) == [None, 1.0]
    assert capsys.readouterr().out.count("left out: out of memory") == 1


@pytest.mark.parametrize(("a", "b", "expected"), [(6.0, 2.0, 3.0), (None, 2.0, None), (6.0, None, None)])
def test_ratio(a, b, expected):
    assert ratio(a, b) == expected


def test_table(capsys):
    print_table("Title", ["", "ms"], [["forward", 1.2345], ["train", 123.45], ["explain", None]])
    assert (
        capsys.readouterr().out == "\nTitle\n              ms\n  forward   1.23\n  train      123\n  explain      –\n"
    )
