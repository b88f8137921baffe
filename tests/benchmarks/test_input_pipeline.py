import json
import os

import numpy as np
import pytest

from benchmarks import input_pipeline
from benchmarks.input_pipeline import Photographs


def test_photographs_are_squares_in_colour():
    for source, size in ((Photographs(375, 500, size=240), 240), (Photographs(64, 64, size=64), 64)):
        assert len(source) == 64
        image = source[5]["image"]
        assert (image.shape, image.dtype) == ((size, size, 3), np.uint8)
    # The flower, the second photograph of the two, is red before a green wood.
    red, _, blue = source[1]["image"].reshape(-1, 3).mean(0)
    assert red > blue


def test_photographs_as_in_imagenet():
    example = Photographs(375, 500, size=240).as_in_imagenet()[1]
    assert (example["image"].shape, example["label"]) == ((256, 341, 3), 1)


def test_cuttings_differ():
    source = Photographs(64, 64, size=64)
    assert len({source[index]["image"].tobytes() for index in range(len(source))}) == 64


def test_images_are_counted(monkeypatch):
    clock = iter([10.0, 10.0, 10.5, 12.0])  # Two batches, which take two seconds.
    monkeypatch.setattr(input_pipeline.time, "perf_counter", lambda: next(clock))
    assert input_pipeline._count_images(iter(3 * [{"label": np.zeros(6)}]), seconds=1) == 6


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_table_and_file(tmp_path, monkeypatch, capsys):
    cores = os.sched_getaffinity(0)
    monkeypatch.setattr(input_pipeline, "ROUNDS", 1)
    monkeypatch.setattr(input_pipeline, "BATCH_SIZE", 2)
    with monkeypatch.context() as one_core:  # Where no workers are measured, which take long to start.
        one_core.setattr(os, "sched_getaffinity", lambda process: {min(cores)})
        input_pipeline.main([f"--out={tmp_path}", "--seconds=0.01"])
    os.sched_setaffinity(0, cores)
    assert "ImageNet: JPEG of 375×500" in capsys.readouterr().out
    rows = json.loads((tmp_path / "input_pipeline.json").read_text())["images_per_second"]
    assert [row["image_size"] for row in rows] == [240, 240, 64]
    assert all(row["one_core"] > 0 and row["two_workers"] is None for row in rows)
