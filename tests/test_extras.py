"""What works without the extras, and what is said where one is missing."""

import subprocess
import sys
from pathlib import Path

import pytest

from coda_jax import InputError
from coda_jax.extras import need

ROOT = Path(__file__).parents[1]
OF_EXTRAS = (
    "cv2 gradio grain jinja2 matplotlib ml_collections pooch requests skimage sklearn tensorboardX tensorflow_datasets "
    "tqdm"
)
# Imports nothing of the extras, as if none were installed.
WITHOUT = f"import sys; sys.modules.update(dict.fromkeys({OF_EXTRAS!r}.split()));"
EXPLAIN = """
import pkgutil

import numpy as np

import coda_jax.attribution, coda_jax.interop, coda_jax.metrics
from coda_jax import add_inverse, load_pretrained
from coda_jax.contributions import contributions

for package in (coda_jax.attribution, coda_jax.interop, coda_jax.metrics):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        __import__(module.name)
model, variables, info = load_pretrained("digits")
inputs = add_inverse(np.random.default_rng(0).random((1, 8, 8, 3), np.float32))
sums = contributions(model, variables, inputs, "all").sum((2, 3, 4)) + model.logit_bias
assert np.allclose(sums, model.apply(variables, inputs), atol=1e-4)
explained = coda_jax.explain("digits", np.zeros((20, 30, 3)), "all")
assert np.allclose(explained.contribution_maps.sum((2, 3)) + explained.logit_bias, explained.logits, atol=1e-4)
print("explained")
"""


def run_without_extras(program):
    return subprocess.run([sys.executable, "-c", WITHOUT + program], capture_output=True, text=True, cwd=ROOT)


def test_what_is_there_is_not_answered():
    need("train", "json", "numpy")


def test_the_answer_is_one_line_with_the_command():
    with pytest.raises(InputError) as raised:
        need("train", "json", "no_such_module")
    assert str(raised.value) == "coda_jax needs no_such_module for this: pip install 'coda_jax[train]'"


def test_images_are_explained_without_extras():
    done = run_without_extras(EXPLAIN)
    assert (done.stdout, done.stderr) == ("explained\n", "")


@pytest.mark.parametrize(
    ("program", "missing", "extra"),
    [
        ("import coda_jax.training.loop", "grain", "train"),
        ("from coda_jax.data import train_batches", "grain", "train"),
        ("from coda_jax import data; data.load('digits')", "cv2", "train"),
        ("import coda_jax.plotting.maps", "matplotlib", "pictures"),
        ("from coda_jax.report import write_report", "grain", "all"),
        ("import coda_jax.app", "gradio", "app"),
        (
            "import coda_jax, numpy as np; coda_jax.explain('digits', np.ones((8, 8, 3))).show()",
            "matplotlib",
            "pictures",
        ),
    ],
)
def test_what_needs_an_extra_says_so(program, missing, extra):
    done = run_without_extras(program)
    assert done.stderr.splitlines()[-1].endswith(f"needs {missing} for this: pip install 'coda_jax[{extra}]'")


def test_the_version_is_told_without_extras():
    done = run_without_extras("from coda_jax.command_line import main; main(['--version'])")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("coda_jax 0.")


def test_the_command_line_says_so_in_one_line():
    done = run_without_extras("from coda_jax.command_line import main; main(['info', 'digits'])")
    assert done.returncode == 1
    assert done.stderr == "error: coda_jax needs cv2 for this: pip install 'coda_jax[all]'\n"
