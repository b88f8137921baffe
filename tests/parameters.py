"""Parameters of a network without compiling its initialisation."""

import numpy as np
from flax import traverse_util

from coda_jax.networks.variables import variable_shapes


def random_variables(model, dtype=np.float32, seed=0):
    """Normally distributed parameters, scaled so that outputs are neither tiny nor huge; variances are positive."""
    rng = np.random.default_rng(seed)
    drawn = {path: rng.normal(size=shape, scale=0.3).astype(dtype) for path, shape in variable_shapes(model).items()}
    drawn |= {path: np.abs(drawn[path]) for path in drawn if path[-1] == "variance"}
    return traverse_util.unflatten_dict(drawn)
