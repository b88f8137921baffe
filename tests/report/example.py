"""A run that nobody had to train: a network with random parameters, and random images of three badly named classes."""

import base64
import json
import re

import jax
import numpy as np

from coda_jax import CoDANet, add_inverse
from coda_jax.data import Dataset, DatasetInfo, Preprocessing
from coda_jax.networks.config_file import save_config

MODEL = CoDANet(channels=(8, 3), ranks=(4, 4), kernel_sizes=(3, 1), strides=(2, 1), paddings=(1, 0), temperature=0.5)
NAMES = ("<script>alert(1)</script>", "$x$", 'long "&" ' * 20)
METRICS = """\
{"step": 10, "epoch": 0.5, "accuracy": 0.25, "loss": 0.75}
{"step": 20, "epoch": 1.0, "accuracy": 0.5, "loss": 0.625}
{"step": 20, "epoch": 1.0, "test_accuracy": 0.375, "test_loss": 0.6875}
{"step": 40, "epoch": 2.0, "accuracy": 0.75, "loss": 0.5}
{"step": 40, "epoch": 2.0, "test_accuracy": 0.625, "test_loss": 0.5625}
"""
RECORD = {"label": "<script>alert(2)</script>", "produced_by": {}, "results": {"mean": 0.4, "median": 0.3}}
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="800" height="100"><script>alert(3)</script></svg>'


def dataset():
    rng = np.random.default_rng(0)
    examples = [
        {"image": rng.integers(0, 256, (6, 8, 3)).astype(np.uint8), "label": int(rng.integers(3))} for _ in range(40)
    ]
    return Dataset(examples[:1], examples, DatasetInfo(NAMES, Preprocessing(8, 8)))


def make_run(workdir):
    """(workdir, (model, variables), data), with all but a checkpoint in the directory."""
    data = dataset()
    attributes = {name: getattr(MODEL, name) for name in ("channels", "ranks", "kernel_sizes", "strides", "paddings")}
    save_config(workdir, {"dataset": NAMES[0], "model": {**attributes, "temperature": MODEL.temperature}})
    (workdir / "metrics.jsonl").write_text(METRICS)
    records = workdir / "interpretability" / "localisation_3x3-500"
    records.mkdir(parents=True)
    (records / "gradcam.json").write_text(json.dumps(RECORD))
    (workdir / "interpretability" / "localisation_3x3.svg").write_text(SVG)
    return workdir, (MODEL, random_variables(MODEL)), data


def random_variables(model):
    """Parameters without the seconds that compiling `model.init` takes."""
    rng = np.random.default_rng(3)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 8, 8, 6), np.float32))
    return jax.tree.map(lambda leaf: np.float32(0.3 * rng.normal(size=leaf.shape)), shapes)


def predict(model, variables, data):
    """(inputs, logits, labels) of the test set."""
    inputs = add_inverse(np.stack([example["image"] for example in data.test]) / np.float32(255))
    labels = np.array([example["label"] for example in data.test])
    return inputs, np.asarray(jax.jit(model.apply)(variables, inputs)), labels


def page_data(path):
    """What the page's program reads."""
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(), flags=re.DOTALL)[1])


def maps_of(image, layers):
    """The arrays [T, Hl, Wl] of one image, by layer."""
    sizes = [(-1, layer["height"], layer["width"]) for layer in layers]
    return [
        np.frombuffer(base64.b64decode(maps), "<f4").reshape(size)
        for maps, size in zip(image["maps"], sizes, strict=True)
    ]
