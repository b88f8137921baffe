"""What works without the extras, and what is said where one is missing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from coda_jax import InputError
from coda_jax.errors.extras import need

ROOT = Path(__file__).parents[2]
OF_EXTRAS = (
    "cv2 gradio grain jinja2 matplotlib ml_collections pooch requests skimage sklearn tensorboardX tensorflow_datasets "
    "tqdm"
)
# Runs each program in a process of its own, forked where the core's libraries are imported, and no extra can be.
RUN_ALL = f"""
import json, os, sys

import flax.linen, jax, optax

sys.modules.update(dict.fromkeys({OF_EXTRAS!r}.split()))
statuses = []
for number, program in enumerate(json.loads(sys.argv[2])):
    if child := os.fork():
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        continue
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(f"{{sys.argv[1]}}/{{number}}.{{name}}", os.O_WRONLY | os.O_CREAT), descriptor)
    exec(program, {{}})
    sys.exit()
print(json.dumps(statuses))
"""
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


LACKING = [
    ("import coda_jax.training.loop", "grain", "train"),
    ("from coda_jax.data import train_batches", "grain", "train"),
    ("from coda_jax import data; data.load('digits')", "cv2", "train"),
    ("import coda_jax.plotting.maps", "matplotlib", "pictures"),
    ("from coda_jax.report import write_report", "grain", "all"),
    ("from coda_jax.command_line import app; app.run(None)", "gradio", "app"),
    (
        "import coda_jax, numpy as np; coda_jax.explain('digits', np.ones((8, 8, 3))).show()",
        "matplotlib",
        "pictures",
    ),
]
COMMAND = "from coda_jax.command_line import main; main([{}])"
VERSION, INFO = COMMAND.format("'--version'"), COMMAND.format("'info', 'digits'")
PROGRAMS = [EXPLAIN, VERSION, INFO, *(program for program, _, _ in LACKING)]


@pytest.fixture(scope="module")
def without_extras(tmp_path_factory):
    """The exit status, standard output and standard error of each program."""
    directory = tmp_path_factory.mktemp("outputs")
    command = [sys.executable, "-c", RUN_ALL, directory, json.dumps(PROGRAMS)]
    statuses = json.loads(subprocess.run(command, check=True, cwd=ROOT, capture_output=True).stdout)
    outputs = [
        [(directory / f"{number}.{name}").read_text() for name in ("out", "err")] for number in range(len(PROGRAMS))
    ]
    return {
        program: (status, *of_program) for program, status, of_program in zip(PROGRAMS, statuses, outputs, strict=True)
    }


def test_what_is_there_is_not_answered():
    need("train", "json", "numpy")


def test_the_answer_is_one_line_with_the_command():
    with pytest.raises(InputError) as raised:
        need("train", "json", "no_such_module")
    assert str(raised.value) == "coda_jax needs no_such_module for this: pip install 'coda_jax[train]'"


def test_images_are_explained_without_extras(without_extras):
    assert without_extras[EXPLAIN] == (0, "explained\n", "")


@pytest.mark.parametrize(("program", "missing", "extra"), LACKING)
def test_what_needs_an_extra_says_so(without_extras, program, missing, extra):
    _, _, err = without_extras[program]
    assert err.splitlines()[-1].endswith(f"needs {missing} for this: pip install 'coda_jax[{extra}]'")


def test_the_version_is_told_without_extras(without_extras):
    status, out, err = without_extras[VERSION]
    assert (status, err) == (0, "") and out.startswith("coda_jax 0.")


def test_the_command_line_says_so_in_one_line(without_extras):
    status, _, err = without_extras[INFO]
    assert (status, err) == (1, "error: coda_jax needs cv2 for this: pip install 'coda_jax[all]'\n")
