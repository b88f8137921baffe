import json
import math

import pytest

from benchmarks import step_time
from benchmarks.step_time import Chip, Network, Step
from coda_jax import CoDANet
from coda_jax.networks.coda_net import L_CODA, S_CODA

CHIP = Chip(flops=200, memory=20, group=4, inside=100, outside=10, cores=None)  # Of which half is reached.
STEP = Step(flops=(1000, 100), bytes=(30, 20), gradient_bytes=400, temporary_bytes=0)
TINY = Network(
    {"channels": (8, 4), "ranks": (4, 2), "kernel_sizes": (3, 1), "strides": (2, 1), "paddings": (1, 0)}, 32, batch=2
)


def test_computation_by_hand():
    assert step_time.computation_seconds(STEP, CHIP, batch=5) == (15, 13)


def test_all_reduce_by_hand():
    assert step_time.all_reduce_seconds(400, CHIP, chips=1) == 0
    assert step_time.all_reduce_seconds(400, CHIP, chips=2) == 8  # Each sends 400 bytes, at 50 a second.
    assert step_time.all_reduce_seconds(400, CHIP, chips=4) == 12  # 2 · 3/4 · 400 bytes.
    # Then three groups exchange a quarter of the bytes, 2 · 2/3 · 100, at 5 a second.
    assert step_time.all_reduce_seconds(400, CHIP, chips=12) == pytest.approx(12 + 80 / 3)
    one_group = CHIP._replace(group=1000, outside=math.inf)
    assert step_time.all_reduce_seconds(400, one_group, chips=8) == 14


def test_least_batch_by_hand():
    # The all-reduce of 4 chips takes 12 s, a third of a step whose computation takes 24: the memory traffic of 11
    # images takes (30 + 11 · 20) / 10 = 25, that of 10 images takes 23, and their operations less.
    assert step_time.least_batch(STEP, CHIP, chips=4, efficiency=2 / 3) == 11


@pytest.mark.parametrize(("shape", "size", "parameters"), [(S_CODA, 32, 7_782_816), (L_CODA, 240, 47_517_408)])
def test_parameters_are_the_papers(shape, size, parameters):
    assert step_time._parameters(CoDANet(**shape), size) == parameters


def test_cost_grows_with_the_batch():
    step = step_time.count(TINY)
    six = step_time._compiled(CoDANet(**TINY.shape), TINY.image_size, 6).cost_analysis()
    assert 0 < step.flops[0] < step.flops[1]
    # The line through batches of one and two misses larger ones a little, as the compiler fuses them otherwise.
    assert step.flops[0] + 6 * step.flops[1] == pytest.approx(six["flops"], rel=0.05)
    assert step.bytes[0] + 6 * step.bytes[1] == pytest.approx(six["bytes accessed"], rel=0.05)


def test_tables_and_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(step_time, "NETWORKS", {"S-CoDA, CIFAR-10": TINY})
    monkeypatch.setattr(step_time, "_check", lambda step: {})
    rates = [{"image_size": 32, "one_core": 100.0}]
    (tmp_path / "input_pipeline.json").write_text(json.dumps({"images_per_second": rates}))
    step_time.main([f"--out={tmp_path}"])
    assert "share, 512" in capsys.readouterr().out
    results = json.loads((tmp_path / "step_time.json").read_text())
    assert [row["chip"] for row in results["chips"]] == list(step_time.CHIPS)
    row = results["chips"][0]
    assert row["cores_for_input"] == pytest.approx(row["images_per_second"] / 100)
    assert row["efficiency"][0] == 1 > row["efficiency"][1] > row["efficiency"][3]
