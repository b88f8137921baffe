"""Runs on several devices and in several processes, against the same runs on one device."""

import re
import signal

import jax
import numpy as np
import pytest

from coda_jax import load
from coda_jax.training.metrics_log import read_metrics
from tests.experiments.processes import outcomes, run_quickly, run_together, start_together

STEPS = "--config.num_steps={}".format
# Every number of devices has programs of its own, which compile in a third of the time for two layers.
NETWORK = tuple(
    f"--config.model.{attribute}"
    for attribute in ("channels=(8,10)", "ranks=(4,4)", "kernel_sizes=(3,1)", "strides=(1,1)", "paddings=(1,0)")
)


@pytest.fixture(scope="module")
def one(request, tmp_path_factory):
    """(whether images are kept on devices, the working directory of 50 steps on one device)."""
    workdir = tmp_path_factory.mktemp("one")
    assert_all_succeed(
        [run_quickly(f"--workdir={workdir}", *NETWORK, STEPS(50), f"--config.on_device={request.param}")]
    )
    return request.param, workdir


# Batches from the host are compared so in the next test.
@pytest.mark.parametrize("one", [True], indirect=True, ids=["on_device"])
def test_devices_and_processes_give_the_parameters_of_one_device(one, tmp_path):
    on_device, workdir = one
    eight, two_by_four = tmp_path / "eight", tmp_path / "two_by_four"
    arguments = (*NETWORK, STEPS(50), f"--config.on_device={on_device}")
    assert_all_succeed([run_quickly(f"--workdir={eight}", *arguments, devices=8)])
    first, second = results = run_together(2, f"--workdir={two_by_four}", *arguments, devices=4)
    assert_all_succeed(results)
    for other in (eight, two_by_four):
        assert_close_parameters(other, workdir)
    # Process 0 alone tells and writes, and every test image counts once.
    assert "test accuracy after step 50" in first[1] and "step" not in second[1] + second[2]
    tested = [read_metrics(path / "metrics.jsonl")[-1] for path in (workdir, eight, two_by_four)]
    assert len({record["test_accuracy"] for record in tested}) == 1
    np.testing.assert_allclose([record["test_loss"] for record in tested], tested[0]["test_loss"], rtol=1e-5)


@pytest.mark.parametrize("one", [False], indirect=True, ids=["host"])
def test_a_signal_to_one_process_stops_all_and_other_devices_go_on(one, tmp_path):
    arguments = (f"--workdir={tmp_path}", *NETWORK, "--config.log_every=5")
    assert_all_succeed([run_quickly(*arguments, STEPS(15), devices=8)])
    processes = start_together(2, *arguments, STEPS(50), devices=4)
    for line in processes[0].stderr:
        if line.startswith("step 25/"):
            processes[1].send_signal(signal.SIGTERM)
            break
    results = outcomes(processes)
    assert [status for status, _, _ in results] == [128 + signal.SIGTERM] * 2
    first, second = (err.splitlines()[-1] for _, _, err in results)
    assert first == second
    step = re.fullmatch(r"error: stopped by SIGTERM after step (\d+) of 50, which is saved: .*", first)[1]
    assert (tmp_path / "checkpoints" / step).is_dir() and 25 <= int(step) < 50
    assert_all_succeed([run_quickly(*arguments, STEPS(50))])
    assert_close_parameters(tmp_path, one[1])


def assert_close_parameters(workdir, reference):
    for ours, expected in zip(*(jax.tree.leaves(load(path).variables) for path in (workdir, reference)), strict=True):
        # The promise is 1e-5; the devices' sums differ in their order only.
        assert np.linalg.norm(ours - expected) <= 1e-5 * np.linalg.norm(expected)


def assert_all_succeed(results):
    for status, _, err in results:
        assert status == 0, err
