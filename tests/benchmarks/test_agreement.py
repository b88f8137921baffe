import argparse
import json
import time

import numpy as np
import pytest

from benchmarks import agreement
from benchmarks.worker import TINY_NETWORK


@pytest.fixture
def options(tmp_path):
    return argparse.Namespace(network="tiny", seconds=1.0, out=tmp_path)


def results(options):
    return [json.loads(line) for line in (options.out / "results.jsonl").read_text().splitlines()]


def test_each_precision_is_held_to_its_own_tolerance(options, monkeypatch):
    # bfloat16 cannot be exact; float32 is to be within 1e-5 of float64, which both are computed by real programs.
    monkeypatch.setattr(agreement, "THREE_LAYERS", TINY_NETWORK)
    monkeypatch.setattr(agreement, "TOLERANCES", {"float32": 1e-5, "bfloat16": 0})
    assert not agreement.agreement(options, time.monotonic() + 1e6)
    about, *found = results(options)
    assert about["platform"] == "cpu" and about["network"] == "tiny"
    assert len(found) == 6 * 2 + 3
    assert all(each["ok"] == (each["precision"] == "float32") for each in found)
    # 2⁻⁸ is the rounding of a value in bfloat16, of which errors of a network add up.
    assert all(1e-4 < each["difference"] < 2e-2 for each in found if not each["ok"])


@pytest.mark.parametrize("wrong", [False, True])
def test_all_is_well_unless_something_differs(options, wrong, monkeypatch):
    def value(program, model, precision):
        return {"a": np.array([100.0, 100 + (wrong and precision == "tf32") * 3])}

    monkeypatch.setattr(agreement, "_value", value)
    assert agreement.agreement(options, time.monotonic() + 1e6) != wrong
    differences = {each["precision"]: each["difference"] for each in results(options)[1:]}
    assert differences == {"float32": 0, "tf32": 0.03 if wrong else 0, "bfloat16": 0}


def test_what_there_is_no_time_for_is_told(options, monkeypatch):
    monkeypatch.setattr(agreement, "_value", lambda *_: time.sleep(0.01))
    assert agreement.agreement(options, time.monotonic())
    _, *found = results(options)
    assert len(found) == 3 * 6 - 2 + 3 and all(each["left_out"] == "for want of time" for each in found)
