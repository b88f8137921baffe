import gc
import os
import re
import resource
import signal
import textwrap

import jax
import numpy as np
import optax
import pytest

from coda_jax.data import DatasetInfo
from coda_jax.errors import InputError, RunError
from coda_jax.interop.pretrained import Pretrained
from coda_jax.training import loop
from coda_jax.training.configuration import Training
from coda_jax.training.loop import train
from coda_jax.training.metrics_log import MetricsLog, read_metrics
from tests.training.problem import DATASET, HYBRID, MODEL

# What Orbax began when it failed, it leaves to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SETTINGS = {
    "batch_size": 8,
    "num_steps": 30,
    "seed": 0,
    "flip": True,
    "crop_padding": 1,
    "learning_rate": 1e-2,
    "log_every": 10,
    "checkpoint_every": 12,
}


# What the loop takes its batches from: the host, or the examples on the devices.
PIPELINES = {"host": False, "on_device": True}
both = pytest.mark.parametrize("on_device", PIPELINES.values(), ids=PIPELINES.keys())


def run(workdir, model=MODEL, dataset=DATASET, **changes):
    return train(model, dataset, Training(**SETTINGS | changes), workdir)


class Signalling(list):
    """Examples of which the one that is read as the `at`-th is preceded by a signal."""

    def __init__(self, examples, at, number):
        super().__init__(examples)
        self.left, self.number = at, number

    def __getitem__(self, index):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)
        return super().__getitem__(index)


@both
def test_learns_and_records(tmp_path, capsys, on_device):
    gc.collect()  # Coroutines that Orbax left in earlier tests may complain when they are collected.
    capsys.readouterr()
    state = run(tmp_path, num_steps=60, on_device=on_device)
    assert int(state.step) == 60
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [record["step"] for record in records if "loss" in record] == [10, 20, 30, 40, 50, 60]
    # 50 examples: epochs end with steps 7, 13, 19, 25, ...; the last evaluation is of the last step.
    tests = [record for record in records if "test_loss" in record]
    assert [record["step"] for record in tests] == [7, 13, 19, 25, 32, 38, 44, 50, 57, 60]
    assert tests[-1]["test_accuracy"] > 0.9 and tests[-1]["test_loss"] < tests[0]["test_loss"] / 2
    assert records[-1]["epoch"] == 60 * 8 / 50
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"compiled the training step and began in \d+\.\d s", lines[0])
    assert [line.split()[1] for line in lines[1:]] == [f"{record['step']}/60" for record in records]


def test_tests_come_after_every_so_many_epochs_and_at_the_end(tmp_path):
    run(tmp_path, num_steps=17, test_every=2)  # Epochs end with steps 7, 13, 19 and 25.
    run(tmp_path, num_steps=27, test_every=2)
    tests = [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl") if "test_loss" in record]
    assert tests == [13, 17, 25, 27]


def test_few_images_are_tested_as_often_as_there_were_to_be_epochs(tmp_path):
    run(tmp_path, num_steps=None, num_epochs=2, min_steps=30)  # Two epochs of 50 examples are 13 steps.
    tests = [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl") if "test_loss" in record]
    assert tests == [19, 38]


def test_a_run_begins_with_a_trained_network(tmp_path):
    params = run(tmp_path / "given", num_steps=20).params
    trained = Pretrained(MODEL, {"params": params}, DATASET.info)
    nameless = trained._replace(info=None)
    more = MODEL.clone(channels=(6, 3))
    info = DatasetInfo(("between", "below", "above"), DATASET.info.preprocessing)
    settings = Training(**SETTINGS | {"num_steps": 1, "learning_rate": 0.0})
    same, as_many, other, none_known, fresh = (
        train(model, DATASET._replace(info=data_info), settings, tmp_path / name, begin).params
        for name, model, data_info, begin in (
            ("same", MODEL, DATASET.info, trained),
            ("as many", MODEL, DATASET.info, nameless),
            ("other", more, info, trained),
            ("none known", more, info, nameless),
            ("fresh", more, info, None),
        )
    )
    jax.tree.map(np.testing.assert_array_equal, same, params)
    jax.tree.map(np.testing.assert_array_equal, as_many, params)
    for began, known, there in ((other, [1, 2], [1, 0]), (none_known, [], [])):
        jax.tree.map(np.testing.assert_array_equal, began["layers_0"], params["layers_0"])
        np.testing.assert_array_equal(began["layers_1"]["B"], params["layers_1"]["B"])
        for name, units in (("A", -2), ("b", -1)):
            own, given, random = (
                np.moveaxis(np.asarray(p["layers_1"][name]), units, 0) for p in (began, params, fresh)
            )
            np.testing.assert_array_equal(own[known], given[there])
            anew = [number for number in range(3) if number not in known]
            np.testing.assert_array_equal(own[anew], random[anew])
    # A run that goes on does not begin anew.
    run(tmp_path / "goes on", num_steps=5)
    goes_on = train(MODEL, DATASET, Training(**SETTINGS | {"num_steps": 30}), tmp_path / "goes on", trained)
    jax.tree.map(np.testing.assert_array_equal, goes_on.params, run(tmp_path / "whole").params)


def test_crops_that_are_too_small_for_a_kernel(tmp_path):
    with pytest.raises(InputError, match="a kernel of 5 does not fit into 2 pixels padded by 1"):
        run(tmp_path, model=MODEL.clone(kernel_sizes=(5, 1)), crop_size=2)
    assert not list(tmp_path.iterdir())


@both
def test_records_are_means_since_the_last_one(tmp_path, on_device):
    settings = {"num_steps": 12, "checkpoint_every": 5, "on_device": on_device}
    run(tmp_path / "every", log_every=1, **settings)
    run(tmp_path / "some", log_every=4, **settings)
    every, some = (
        [record["loss"] for record in read_metrics(tmp_path / name / "metrics.jsonl") if "loss" in record]
        for name in ("every", "some")
    )
    # Sums of at most four numbers in float32, in the one or the other order.
    np.testing.assert_allclose(some, np.mean(np.reshape(every, (3, 4)), axis=1), rtol=1e-6)


@pytest.mark.devices
@pytest.mark.parametrize(("pipeline", "log_every"), [("host", 1), ("on_device", 2)])
def test_nothing_is_compiled_twice(tmp_path, caplog, monkeypatch, pipeline, log_every):
    compiled = []  # How many programs, by the time of each record.

    def write(log, step, metrics):
        compiled.append(sum(record.message.startswith("Finished XLA compilation") for record in caplog.records))

    monkeypatch.setattr(MetricsLog, "write", write)
    with jax.log_compiles():
        run(tmp_path, on_device=PIPELINES[pipeline], log_every=log_every, checkpoint_every=5)
    # 50 and 21 examples in batches of 8: no epoch and no evaluation ends with a whole batch. The first evaluation is
    # that after step 7.
    training, later = compiled[: 7 // log_every], compiled[7 // log_every :]
    assert 0 < len(set(training)) == len(set(later)) == 1
    assert 0 < training[0] < later[0]


@both
def test_interrupted_and_resumed_run_ends_with_the_same_bits(tmp_path, on_device):
    whole = run(tmp_path / "whole", on_device=on_device)
    # In the middle of an epoch, and not where a checkpoint is due.
    run(tmp_path / "parts", num_steps=17, on_device=on_device)
    resumed = run(tmp_path / "parts", on_device=on_device)
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)
    last = [read_metrics(tmp_path / name / "metrics.jsonl")[-1] for name in ("whole", "parts")]
    assert last[0] == last[1]


@pytest.mark.devices
def test_a_hybrid_learns_and_goes_on_with_the_same_bits(tmp_path):
    whole = run(tmp_path / "whole", model=HYBRID, num_steps=60)
    run(tmp_path / "parts", model=HYBRID, num_steps=17)
    resumed = run(tmp_path / "parts", model=HYBRID, num_steps=60)
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)
    assert np.ptp(whole.batch_stats["trunk"]["BatchNorm_0"]["mean"]) > 0  # They begin as zeros.
    last = read_metrics(tmp_path / "whole" / "metrics.jsonl")[-1]
    assert last["test_accuracy"] > 0.9
    with pytest.raises(InputError, match="penalty must be 0 but for CoDA-Nets"):
        run(tmp_path / "penalty", model=HYBRID, penalty=0.1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_run_that_then_goes_on_to_the_same_bits(tmp_path, number):
    whole = run(tmp_path / "whole")
    dataset = DATASET._replace(train=Signalling(DATASET.train, 100, number))
    with pytest.raises(RunError, match=rf"stopped by {number.name} after step \d+ of 30, which is saved") as stopped:
        run(tmp_path / "stopped", dataset=dataset)
    assert stopped.value.status == 128 + number
    step = int(re.search(r"step (\d+)", str(stopped.value))[1])
    assert step < 30 and (tmp_path / "stopped" / "checkpoints" / str(step)).is_dir()
    jax.tree.map(np.testing.assert_array_equal, run(tmp_path / "stopped"), whole)


def test_a_run_that_is_stopped_while_it_is_tested_is_tested_when_it_goes_on(tmp_path):
    run(tmp_path / "whole")
    # The first evaluation, after step 7, reads one example for its shape, and all 21.
    dataset = DATASET._replace(test=Signalling(DATASET.test, 3, signal.SIGTERM))
    with pytest.raises(RunError, match="stopped by SIGTERM after step 7 of 30"):
        run(tmp_path / "stopped", dataset=dataset)
    run(tmp_path / "stopped")
    whole, stopped = (
        [record for record in read_metrics(tmp_path / name / "metrics.jsonl") if "test_loss" in record]
        for name in ("whole", "stopped")
    )
    assert stopped == whole


@both
def test_a_loss_that_is_not_finite_is_named_and_never_saved(tmp_path, monkeypatch, on_device):
    # Its first step after the fifth makes parameters of which the loss is not finite.
    schedule = optax.piecewise_constant_schedule(1e-2, {5: 1e38})
    monkeypatch.setattr(Training, "make_optimizer", lambda training, num_examples: optax.sgd(schedule))
    drawn = "on the device" if on_device else "by the host"
    message = (
        "the loss or a gradient of step 7 is not finite: the last checkpoint, of step 4, is kept, .* its batch is "
        rf"number 6 \(from 0\) of those drawn {drawn} with seed=0, batch_size=8, crop_size=None, flip=True, "
        "crop_padding=1, crop_scale=1.0, colour=0.0, randaugment=0; "
    )
    with pytest.raises(RunError, match=message):
        run(tmp_path, checkpoint_every=4, on_device=on_device)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["4"]
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


# No file can grow beyond so many bytes: the first keeps checkpoints from being written, the second metrics as well.
@pytest.mark.parametrize(
    ("size", "message"),
    [(3000, "cannot save the checkpoint of step 24 in .*: the last one, of step 12, is kept"), (100, "the metrics in")],
)
def test_what_cannot_be_written_stops_a_run_and_spoils_nothing(tmp_path, size, message):
    whole = run(tmp_path / "whole")
    run(tmp_path / "stopped", num_steps=12)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with pytest.raises(RunError, match=message):
            run(tmp_path / "stopped")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    jax.tree.map(np.testing.assert_array_equal, run(tmp_path / "stopped"), whole)


def test_accumulated_parts_give_the_same_step(tmp_path):
    whole = run(tmp_path / "whole", batch_size=16)
    parts = run(tmp_path / "parts", batch_size=16, accumulation=2)
    for ours, expected in zip(jax.tree.leaves(parts.params), jax.tree.leaves(whole.params), strict=True):
        # Sums in another order, over 30 steps of Adam: the promise is 1e-5.
        assert np.linalg.norm(ours - expected) <= 1e-5 * np.linalg.norm(expected)


def test_batches_of_the_host_are_those_of_the_settings(tmp_path, monkeypatch):
    class AskedError(Exception):
        pass

    def batches(source, **settings):
        raise AskedError(settings)

    monkeypatch.setattr(loop, "train_batches", batches)
    settings = {"seed": 3, "flip": False, "crop_padding": 2, "randaugment": 5, "num_workers": 1}
    settings |= {"crop_scale": 0.5, "colour": 0.25}
    place = {"batch_size": 8, "start": 0, "process": 0, "processes": 1}
    for crop_size, size in ((None, 3), (2, 2)):  # Of images of 4 pixels.
        with pytest.raises(AskedError) as asked:
            run(tmp_path, **settings, crop_size=crop_size)
        assert asked.value.args == ({**settings, **place, "size": size},)


def test_finished_run_is_left_as_it_is(tmp_path):
    state = run(tmp_path)
    before = (tmp_path / "metrics.jsonl").read_text()
    jax.tree.map(np.testing.assert_array_equal, run(tmp_path), state)
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_other_number_of_classes(tmp_path):
    with pytest.raises(InputError, match="the last of channels is 3, but the data has 2 classes"):
        run(tmp_path, model=MODEL.clone(channels=(6, 3)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.devices
def test_batch_size_that_the_devices_cannot_share(tmp_path):
    with pytest.raises(InputError, match="batch_size is 8, but must be a positive multiple of the"):
        run(tmp_path, accumulation=3)


def test_resident_images_have_no_randaugment(tmp_path):
    with pytest.raises(InputError, match="use randaugment=0, or on_device=False"):
        run(tmp_path, on_device=PIPELINES["on_device"], randaugment=5)
    assert not list(tmp_path.iterdir())


def test_the_lines_of_the_description(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = textwrap.dedent(train.__doc__.partition("train a network:\n")[2].partition("    Args:")[0])
    names = {}
    exec(lines, names)
    assert int(names["state"].step) == 45  # 1437 images in batches of 32.
    assert (tmp_path / "run" / "checkpoints" / "45").is_dir()
