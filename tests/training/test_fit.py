import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from coda_jax import CoDANet, InputError, add_inverse
from coda_jax.data import DatasetInfo, Preprocessing
from coda_jax.data.datasets import Dataset
from coda_jax.errors import RunError
from coda_jax.training import fit, loop
from coda_jax.training.configuration import Training
from coda_jax.training.losses import binary_cross_entropy

MODEL = CoDANet(channels=(8, 3), ranks=(4, 4), kernel_sizes=(3, 1), strides=(2, 1), paddings=(1, 0), temperature=4.0)
SETTINGS = {"batch_size": 8, "learning_rate": 1e-2, "crop_padding": 1}


def stripes(count):
    """Images with the brightest of three channels as their class."""
    rng = np.random.default_rng(count)
    labels = rng.integers(0, 3, count)
    images = rng.integers(0, 128, (count, 8, 8, 3), np.uint8)
    images[np.arange(count), :, :, labels] += 100
    return {"image": images, "label": labels}


@pytest.fixture(scope="module")
def fitted():
    """What was told after each epoch, and the variables at the end."""
    told = []
    variables = fit(MODEL, stripes(20), stripes(11), epochs=4, after_epoch=lambda *of: told.append(of[:2]), **SETTINGS)
    return told, variables


def test_it_learns_and_tells_every_epoch(fitted):
    told, variables = fitted
    assert [epoch for epoch, _ in told] == [1, 2, 3, 4]
    assert all(set(metrics) == {"loss", "accuracy", "test_loss", "test_accuracy", "seconds"} for _, metrics in told)
    assert told[-1][1]["loss"] < told[0][1]["loss"]
    # Each of the eleven counts once, though the last batch of eight is filled up.
    logits = jax.jit(MODEL.apply)(variables, add_inverse(stripes(11)["image"] / np.float32(255)))
    labels = stripes(11)["label"]
    assert told[-1][1]["test_accuracy"] == pytest.approx(np.mean(np.asarray(logits).argmax(-1) == labels), abs=1e-6)
    # Two orders of summing float32 values.
    loss = float(binary_cross_entropy(logits, labels).mean())
    assert told[-1][1]["test_loss"] == pytest.approx(loss, rel=1e-5)


def test_it_trains_as_the_loop_does(fitted, tmp_path):
    train, test = (
        [{"image": image, "label": label} for image, label in zip(*arrays.values(), strict=True)]
        for arrays in (stripes(20), stripes(11))
    )
    dataset = Dataset(train, test, DatasetInfo(("red", "green", "blue"), Preprocessing(8, 8)))
    training = Training(num_epochs=4, on_device=True, **SETTINGS)
    state = loop.train(MODEL, dataset, training, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, state.variables, fitted[1])


def test_it_goes_on_from_its_checkpoints(fitted, tmp_path):
    def stop(epoch, *_):
        if epoch == 2:
            raise KeyboardInterrupt

    arguments = {"epochs": 4, "workdir": tmp_path, **SETTINGS}
    with pytest.raises(KeyboardInterrupt):
        fit(MODEL, stripes(20), after_epoch=stop, **arguments)
    told = []
    variables = fit(MODEL, stripes(20), after_epoch=lambda epoch, *_: told.append(epoch), **arguments)
    assert told == [3, 4]
    jax.tree.map(np.testing.assert_array_equal, variables, fitted[1])


class Clock:
    """Time in which a step takes a second, and compiling it nine; it is told what else takes time."""

    def __init__(self, monkeypatch):
        self.now, self.planned = 1000.0, []
        module = sys.modules["coda_jax.training.fit"]
        make = module.mapped_train_steps

        def mapped_train_steps(*arguments):
            steps, compiling = make(*arguments), 9

            def timed(state, examples, key, count, devices):
                nonlocal compiling
                self.now += compiling + count
                self.planned.append(float(state.opt_state.hyperparams["steps"]))
                compiling = 0
                return steps(state, examples, key, count, devices)

            return timed

        monkeypatch.setattr(module, "mapped_train_steps", mapped_train_steps)
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))


def test_it_keeps_to_the_seconds_and_ends_the_schedule_with_them(monkeypatch):
    clock, told = Clock(monkeypatch), []

    def after_epoch(epoch, metrics, variables):
        told.append((epoch, clock.now))
        clock.now += 3

    fit(MODEL, stripes(20), seconds=100, after_epoch=after_epoch, **SETTINGS)
    assert [epoch for epoch, _ in told] == list(range(1, len(told) + 1))
    # What is left at the end is too short for a step and for what comes after it.
    assert 96 <= clock.now - 1000 <= 100
    # All other seconds were steps, and with the last of them the schedule ends, but for what was too short at the end.
    assert clock.planned[-1] == pytest.approx(clock.now - 1000 - 9 - 3 * len(told), abs=4)


def test_seconds_that_are_over_train_nothing(monkeypatch):
    clock, told = Clock(monkeypatch), []
    variables = fit(MODEL, stripes(20), seconds=1e-3, after_epoch=lambda *of: told.append(of), **SETTINGS)
    assert told and clock.now == 1010  # A step is begun while there is time left.
    clock.now, told[:] = 1000, []
    monkeypatch.setattr(sys.modules["coda_jax.training.fit"].time, "monotonic", iter(range(1000, 2000)).__next__)
    again = fit(MODEL, stripes(20), seconds=0.5, after_epoch=lambda *of: told.append(of), **SETTINGS)
    assert not told and jax.tree.structure(again) == jax.tree.structure(variables)


def test_the_schedule_is_stretched():
    # A cosine over two epochs of two steps, stretched to eight: Adam's step is the rate where the gradient stays.
    training = Training(num_epochs=2, batch_size=8, learning_rate=1.0, schedule="cosine")
    optimizer = sys.modules["coda_jax.training.fit"]._stretched(training, num_examples=16)
    params = {"a": np.ones(1, np.float32)}
    state = optimizer.init(params)._replace(hyperparams={"steps": np.float32(8)})
    for step in range(8):
        updates, state = optimizer.update({"a": np.ones(1, np.float32)}, state, params)
        # Adam's moments are float32 sums of powers of 0.9 and 0.999.
        assert -updates["a"][0] == pytest.approx((1 + np.cos(np.pi * step / 8)) / 2, abs=1e-4)


def test_the_default_prints_a_line_an_epoch(capsys):
    fit(MODEL, stripes(8), epochs=1, batch_size=8)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("epoch 1  loss 0.") and "  accuracy " in line and "  seconds " in line


def test_a_loss_that_is_not_finite_stops_it():
    with pytest.raises(RunError, match="a loss or gradient of epoch 1 is not finite: use a lower learning_rate"):
        fit(MODEL, stripes(16), epochs=1, batch_size=8, learning_rate=1e38)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": [1, 2]}, 'train must have the entries "image" and "label"'),
        ({"train": {"image": np.zeros((4, 8, 8, 3), np.uint8)}}, 'train must have the entries "image" and "label"'),
        (
            {"train": stripes(4) | {"image": np.zeros((4, 8, 8, 3))}},
            r'train\["image"\] must be uint8 \[n, H, W, 3\], not',
        ),
        ({"train": stripes(4) | {"label": np.zeros(3, int)}}, r'train\["label"\] must have shape \[4\], not \[3\]'),
        ({"train": stripes(4) | {"label": np.full(4, 3)}}, "is not a class: classes go from 0 to 2"),
        ({"test": stripes(4) | {"label": np.zeros(4)}}, r'test\["label"\] must be whole numbers'),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"seconds": 0}, "seconds must be above 0, not 0"),
        ({"epochs": 0}, "num_epochs must be at least 1, not 0"),
        ({"penalty": 1.0, "model": None}, "penalty must be 0 but for CoDA-Nets"),
    ],
)
def test_refusals(changes, message):
    arguments = {"model": MODEL, "train": stripes(4), "test": None, "epochs": 1, "batch_size": 4} | changes
    if arguments["model"] is None:
        from coda_jax.networks.resnet import ResNet

        arguments["model"] = ResNet(depth=8, num_classes=3)
    with pytest.raises(InputError, match=message):
        fit(**arguments)


WITHOUT_MORE = """
import importlib.metadata, re, sys

allowed, found = ["jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint"], set()
while allowed:
    name = re.sub("[-_.]+", "-", allowed.pop()).lower()
    if name not in found:
        found.add(name)
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # Needed on other platforms.
        needed = [requirement for requirement in requirements if "extra ==" not in requirement]
        allowed += [re.match(r"[\\w.-]+", requirement)[0] for requirement in needed]
modules = importlib.metadata.packages_distributions()
refused = {name for name, of in modules.items() if not {re.sub("[-_.]+", "-", one).lower() for one in of} & found}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in refused - {"coda_jax", "tests", "experiments", "benchmarks"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
assert {"grain", "tensorflow_datasets", "ml_collections", "tensorboardX", "PIL", "safetensors", "tqdm"} <= refused
import numpy as np
from coda_jax import CoDANet
from coda_jax.training import fit
layers = {"ranks": (4, 4), "kernel_sizes": (3, 1), "strides": (2, 1), "paddings": (1, 0)}
arrays = {"image": np.zeros((8, 8, 8, 3), np.uint8), "label": np.arange(8) % 3}
fit(CoDANet(channels=(8, 3), **layers), arrays, arrays, epochs=2, batch_size=4, workdir=sys.argv[1], optimizer="muon")
"""


def test_it_needs_no_more_than_jax_flax_optax_and_orbax(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MORE, tmp_path], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["epoch", "1"], ["epoch", "2"]]
    assert (tmp_path / "checkpoints" / "4").is_dir()
