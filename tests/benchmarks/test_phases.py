import argparse
import json
import time

import jax.numpy as jnp
import pytest

from benchmarks.phases import network, run_phase, tell
from benchmarks.worker import NETWORKS


@pytest.fixture
def options(tmp_path):
    return argparse.Namespace(network="XS", out=tmp_path)


def results(options):
    return [json.loads(line) for line in (options.out / "results.jsonl").read_text().splitlines()]


def sleeps(options, deadline):
    time.sleep(600)
    return True


def tells_and_fails(options, deadline):
    tell(options, "tells_and_fails", found=1)
    raise ValueError("no such thing\nat all")


def test_a_result_is_printed_and_written_at_once(options, capsys):
    tell(options, "training", epoch=3, loss=0.123456)
    assert capsys.readouterr().out == "training  epoch 3  loss 0.123\n"
    tell(options, "training", epoch=4)
    assert results(options) == [{"phase": "training", "epoch": 3, "loss": 0.123456}, {"phase": "training", "epoch": 4}]


def test_a_phase_whose_time_is_over_is_ended(options):
    assert run_phase(sleeps, options, time.monotonic())
    assert results(options) == [{"phase": "sleeps", "left_out": "the rest, for want of time"}]


def test_a_phase_that_fails_is_told_and_keeps_its_results(options):
    assert not run_phase(tells_and_fails, options, time.monotonic() + 1e6)
    failed = {"phase": "tells_and_fails", "failed": "ValueError: no such thing at all"}
    assert results(options) == [{"phase": "tells_and_fails", "found": 1}, failed]


def test_networks(options):
    model = network(options, "bfloat16", temperature=2.0)
    assert model.channels == NETWORKS["XS"]["channels"] and model.temperature == 2 and model.dtype == jnp.bfloat16
    assert network(options, "tf32").dtype == jnp.float32
