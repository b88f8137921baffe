import math

import jax.numpy as jnp
import numpy as np

from coda_jax.losses import binary_cross_entropy


def test_by_hand():
    # Label 0: -log σ(0) - log(1 - σ(log 3)) = log 2 + log 4, averaged over the two classes.
    loss = binary_cross_entropy(jnp.array([[0.0, math.log(3)]]), jnp.array([0]))
    np.testing.assert_allclose(loss, [(math.log(2) + math.log(4)) / 2], rtol=1e-6)


def test_large_logits_do_not_overflow():
    loss = binary_cross_entropy(jnp.array([[1000.0, -1000.0], [-1000.0, 1000.0]]), jnp.array([0, 0]))
    np.testing.assert_allclose(loss, [0, 1000], rtol=1e-6)
