"""Parameters of a network without compiling its initialisation."""

import numpy as np

from coda_jax.networks.coda_net import parameter_shapes


def random_variables(model, dtype=np.float32, seed=0):
    """Normally distributed parameters, scaled so that outputs are neither tiny nor huge."""
    rng = np.random.default_rng(seed)
    variables = {"params": {}}
    for name, shape in parameter_shapes(model).items():
        layer, parameter = name.split(".")
        values = rng.normal(size=shape, scale=0.3).astype(dtype)
        variables["params"].setdefault(layer, {})[parameter] = values
    return variables
