"""Outputs of the authors' code, and the network that they belong to."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coda_jax import add_inverse
from coda_jax.interop.torch import load_checkpoint

SHARED = Path(__file__).parents[2] / "shared"
IN_EVERY_CLONE = Path(__file__).parent / "golden_values"
GOLDEN = ("sq_3layer_one_image", "sq_3layer", "l2_3layer", "sq_9layer_rank4", "sq_imagenet_stem")
TRAINED = ("sq_3layer", "l2_3layer")

# float32: the goal for agreement with the authors' code; float64: rounding of sums of some thousand products.
TOLERANCE = {jnp.float32: 1e-5, jnp.float64: 1e-10}
# XLA's optimisations change how float32 rounds, which is near its tolerance; float64 is far from it.
DTYPES = [pytest.param(jnp.float32, marks=pytest.mark.precision), jnp.float64]


def load_golden(name):
    """A file of outputs of the authors' code as a dict of arrays; `config` as a dict."""
    path = IN_EVERY_CLONE / f"{name}.npz"
    if not path.exists():
        path = SHARED / "golden" / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"needs the outputs of the authors' code in {path}, which only developers have")
    with np.load(path) as arrays:
        golden = dict(arrays)
    golden["config"] = json.loads(str(golden["config"]))
    return golden


def golden_network(arrays, prefix, dtype):
    """The network in a golden file and its variables, from the arrays whose names start with `prefix`."""
    config = arrays["config"]
    model, variables = load_checkpoint(
        {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)},
        config["strides"],
        config["paddings"],
        config["norm"].lower(),
        config["temperature"],
        config["logit_bias"],
    )
    variables = jax.tree.map(lambda array: jnp.asarray(array, dtype), variables)
    return model.clone(dtype=dtype, param_dtype=dtype), variables


def golden_inputs(arrays, dtype):
    return add_inverse(jnp.asarray(arrays["images"].transpose(0, 2, 3, 1), dtype))


def assert_close(ours, golden, tolerance):
    """Equal up to `tolerance` times the largest value."""
    np.testing.assert_allclose(ours, golden, rtol=0, atol=tolerance * np.abs(golden).max())
