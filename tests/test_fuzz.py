"""Whatever the public functions are given, they work, or say in a ValueError or TypeError which argument is wrong."""

import re
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.tree_util import Partial

from coda_jax import CoDANet, InputError, add_inverse, explain, from_pretrained, save_pretrained
from coda_jax.attribution.deeplift import deeplift
from coda_jax.attribution.gradcam import gradcam
from coda_jax.attribution.gradient import gradient
from coda_jax.attribution.guided_backpropagation import guided_backpropagation
from coda_jax.attribution.input_x_gradient import input_x_gradient
from coda_jax.attribution.integrated_gradients import integrated_gradients
from coda_jax.attribution.lime import lime
from coda_jax.attribution.occlusion import occlusion
from coda_jax.attribution.rise import rise
from coda_jax.attribution.smoothgrad import smoothgrad
from coda_jax.contributions import contribution_map, contributions, layer_contributions, layer_maps, linear_weights
from coda_jax.data import DatasetInfo, Preprocessing, load
from coda_jax.interop.export import export
from coda_jax.interop.pretrained import Pretrained
from coda_jax.interop.torch import load_checkpoint, to_state_dict
from coda_jax.metrics.completeness import completeness_residual
from coda_jax.metrics.localisation import compose_grids, draw_grids, localisation_score
from coda_jax.metrics.pixel_removal import removal_curve
from coda_jax.metrics.randomisation import map_similarity, randomise_layers
from coda_jax.training.losses import binary_cross_entropy

# Few shapes, as every one is compiled; "O" and "U" hold no numbers, "?" holds truths.
SHAPES = [
    (),
    (0,),
    (2,),
    (3,),
    (2, 1),
    (2, 0),
    (2, 3),
    (2, 4, 4),
    (0, 4, 4, 6),
    (2, 4, 4, 3),
    (2, 4, 4, 6),
    (2, 3, 4, 4),
]
SHAPES += [(2, 0, 4, 6), (2, 4, 4, 0), (2, 1, 1, 6), (2, 3, 4, 4, 6), (2, 0, 4, 4, 6)]
DTYPES = [
    np.float32,
    np.float32,
    np.float64,
    np.int32,
    np.uint8,
    np.float16,
    jnp.bfloat16,
    "?",
    "O",
    "U1",
    np.complex64,
]
VALUES = [0, 0.5, 1, 2, -1, 1e30, np.nan, np.inf]

ARRAYS = st.builds(
    lambda shape, dtype, value, ours: _array(shape, dtype, value, ours),
    st.sampled_from(SHAPES),
    st.sampled_from(DTYPES),
    st.sampled_from(VALUES),
    st.booleans(),
)
OTHERS = st.sampled_from(
    [None, "a", b"a", "all", True, [], {}, {"a": 1}, [[1], [2, 3]], (3, 3), (0, 3), (1.5, 2), object(), len, jnp.sum]
    + [-1, 0, 1, 2, 3, 10, 10**30, -(10**400), 0.5, 1.0, -2.5, np.nan, np.inf, 1j, np.int64(2), np.float32(0.5)]
    + [jax.random.key(1), jax.random.PRNGKey(1), jnp.float32, ("a", "b"), (3, "a"), ((1, 2), (3, 4))]
)
ANYTHING = ARRAYS | OTHERS


def _array(shape, dtype, value, ours):
    with np.errstate(invalid="ignore", over="ignore"):
        array = np.full(shape, value).astype(dtype)
    return jnp.asarray(array) if ours and jnp.issubdtype(array.dtype, jnp.number) else array


MODEL = CoDANet((2, 3), (2, 2), (3, 1), (1, 1), (1, 0), temperature=2.0)
INPUTS = np.random.default_rng(0).random((2, 4, 4, 6)).astype(np.float32)
VARIABLES = jax.jit(MODEL.init)(jax.random.key(0), INPUTS)
LOGITS_FN = Partial(MODEL.apply, VARIABLES)
LINEAR_FN = Partial(
    lambda weights, inputs: jax.nn.relu(inputs.reshape(len(inputs), -1) @ weights), np.ones((96, 3), "f4")
)


def make_linear_fn(activation, max_pool=None):
    return Partial(
        lambda weights, inputs: activation(inputs.reshape(len(inputs), -1) @ weights), np.ones((96, 3), "f4")
    )


NETWORK = {"model": MODEL, "variables": VARIABLES, "inputs": INPUTS}
TARGETS = np.array([0, 2])
EXPLAINED = {"logits_fn": LINEAR_FN, "inputs": INPUTS, "targets": TARGETS}
CHUNKED = EXPLAINED | {"chunk_size": 2}
REPLACEABLE = {"make_logits_fn": make_linear_fn} | {k: v for k, v in CHUNKED.items() if k != "logits_fn"}
PERTURBED = EXPLAINED | {"copies_at_once": 2}
KEY = {"key": jax.random.key(0)}
MAPS = np.random.default_rng(1).random((2, 4, 4))
NAMES = ("0.weight_mod.weighting_f.0.weight", "0.weight_mod.weighting_f.1.weight", "0.weight_mod.weighting_f.1.bias")
CHECKPOINT = dict(zip(NAMES, (np.zeros((3, 1, 2, 2)), np.zeros((8, 3, 1, 1)), np.zeros(8)), strict=True))
INFO = DatasetInfo(("a", "b", "c"), Preprocessing(4, 4))
MODEL_ARGUMENTS = {name: getattr(MODEL, name) for name in ("channels", "ranks", "kernel_sizes", "strides", "paddings")}
MODEL_ARGUMENTS |= {"layer": "dau", "norm": "sq", "temperature": 2.0, "logit_bias": 0.0}
MODEL_ARGUMENTS |= {"dtype": jnp.float32, "param_dtype": jnp.float32}


def apply(inputs):
    return MODEL.apply(VARIABLES, inputs)


def init(inputs):
    return MODEL.init(jax.random.key(0), inputs)


def save_and_load(model, variables, info):
    with tempfile.TemporaryDirectory() as directory:
        save_pretrained(directory, model, variables, info)
        from_pretrained(directory)


THERE = "a directory that is there"


def load_from(directory):
    with tempfile.TemporaryDirectory() as existing:
        save_pretrained(existing, MODEL, VARIABLES)
        from_pretrained(existing if directory is THERE else directory)


def export_to_file(model, variables, image_size, info):
    with tempfile.TemporaryDirectory() as directory:
        export(model, variables, Path(directory) / "file", image_size=image_size, info=info)


# Every function with arguments that are right, some of which are replaced.
FUNCTIONS = [
    (add_inverse, {"images": INPUTS[..., :3]}),
    (CoDANet, MODEL_ARGUMENTS),
    (apply, {"inputs": INPUTS}),
    (init, {"inputs": INPUTS}),
    (contributions, NETWORK | {"targets": TARGETS, "chunk_size": 1}),
    (linear_weights, NETWORK | {"targets": TARGETS, "chunk_size": 1}),
    (layer_contributions, NETWORK | {"targets": TARGETS, "layer": 1, "chunk_size": 1}),
    (layer_maps, NETWORK | {"targets": TARGETS, "chunk_size": 1}),
    (
        explain,
        {"network": Pretrained(MODEL, VARIABLES, INFO), "images": INPUTS[..., :3], "targets": TARGETS, "chunk_size": 1},
    ),
    (contribution_map, {"contributions": INPUTS[:, None]}),
    (binary_cross_entropy, {"logits": np.zeros((2, 3), np.float32), "labels": TARGETS}),
    (
        completeness_residual,
        {"attributions": INPUTS[:, None], "logits": np.zeros((2, 1), np.float32), "baseline_logits": 0.0},
    ),
    (localisation_score, {"maps": np.ones((2, 4, 4, 4), np.float32), "grid": (2, 2)}),
    (compose_grids, {"inputs": INPUTS, "indices": np.array([[0, 1]]), "grid": (1, 2)}),
    (draw_grids, {"logits": np.eye(3)[[0, 1, 2]], "labels": np.arange(3), "count": 1, "grid": (1, 3), "seed": 0}),
    (
        removal_curve,
        NETWORK | {"maps": MAPS, "targets": TARGETS, "fraction": 0.5, "points": 2, "order": "least", "chunk_size": 4},
    ),
    (randomise_layers, NETWORK | KEY | {"layers": ["layers_1"]}),
    (map_similarity, {"maps": MAPS, "others": MAPS}),
    (gradient, CHUNKED),
    (input_x_gradient, CHUNKED),
    (deeplift, REPLACEABLE | {"baseline": 0.0}),
    (guided_backpropagation, REPLACEABLE),
    (integrated_gradients, CHUNKED | {"steps": 2, "baseline": 0.0}),
    (smoothgrad, CHUNKED | KEY | {"samples": 2, "noise": 0.1}),
    (gradcam, CHUNKED | {"logits_fn": LOGITS_FN, "layer": "layers_0"}),
    (occlusion, PERTURBED | {"window": 3, "stride": 2, "fill": 0.0}),
    (rise, PERTURBED | KEY | {"masks": 3, "cells": 2, "probability": 0.5}),
    (
        lime,
        PERTURBED
        | KEY
        | {"segments": 4, "compactness": 1.0, "samples": 4, "ridge": 1.0, "kernel_width": 0.25, "fill": 0.0},
    ),
    (
        load_checkpoint,
        {
            "path_or_mapping": CHECKPOINT,
            "strides": [1],
            "paddings": [0],
            "norm": "sq",
            "temperature": 1.0,
            "logit_bias": 0.0,
        },
    ),
    (to_state_dict, {"model": MODEL, "variables": VARIABLES}),
    (save_and_load, {"model": MODEL, "variables": VARIABLES, "info": INFO}),
    (load_from, {"directory": THERE}),
    (export_to_file, {"model": MODEL, "variables": VARIABLES, "image_size": 4, "info": INFO}),
    (load, {"name": "digits", "data_dir": None, "image_size": None}),
]
# What messages call an argument.
SYNONYMS = {"there is no data set": "name", "index": "indices", "checkpoint": "path_or_mapping"}
SYNONYMS |= {
    "directory must be": "network",
    "there is no run": "network",
    "no class": "targets",
    "No such file": "images",
}
# Numbers that ask for more than a test should do.
COSTLY = {
    "points",
    "masks",
    "samples",
    "segments",
    "steps",
    "cells",
    "window",
    "chunk_size",
    "copies_at_once",
    "count",
    "image_size",
}


every_function = pytest.mark.parametrize("index", range(len(FUNCTIONS)), ids=[call.__name__ for call, _ in FUNCTIONS])


@every_function
def test_right_arguments_are_right(index):
    function, arguments = FUNCTIONS[index]
    function(**arguments)


@every_function
@settings(max_examples=25, deadline=None, database=None, derandomize=True)
@given(data=st.data())
def test_anything_works_or_is_refused_by_name(index, data):
    function, arguments = FUNCTIONS[index]
    replaced = data.draw(st.sampled_from(sorted(arguments)))
    value = data.draw(ANYTHING)
    if replaced in COSTLY and isinstance(value, int) and value > 100:
        value = 100
    try:
        function(**arguments | {replaced: value})
    except ModuleNotFoundError as error:
        assert "needs PyTorch" in str(error)
    except (ValueError, TypeError) as error:
        message = " ".join([str(error), *(name for words, name in SYNONYMS.items() if words in str(error))])
        # Where two arguments do not fit together, ours may name the other; "target 3" names targets.
        names = arguments if isinstance(error, InputError) else [replaced]
        assert any(re.search(rf"\b{name.removesuffix('s')}", message) for name in names), f"{replaced}: {error!r}"
