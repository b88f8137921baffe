import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from coda_jax import InputError
from coda_jax.training.optimizer import make_optimizer


def test_adam_is_that_of_optax_and_decays_weights_if_asked():
    params, gradients = {"A": jnp.array([2.0, -3.0])}, {"A": jnp.array([1.0, 1.0])}
    for weight_decay, theirs in ((0.0, optax.adam(0.1)), (0.5, optax.adamw(0.1, weight_decay=0.5))):
        ours = make_optimizer("adam", lambda step: 0.1, weight_decay)
        expected, _ = theirs.update(gradients, theirs.init(params), params)
        found, _ = ours.update(gradients, ours.init(params), params)
        np.testing.assert_array_equal(found["A"], expected["A"])


def test_muon_makes_the_update_of_every_unit_orthogonal():
    rng = np.random.default_rng(0)
    shapes = {"A": (3, 3, 2, 5, 4), "B": (3, 3, 2, 4), "b": (3, 3, 2, 5), "bias": (5,)}
    gradients = {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}
    params = jax.tree.map(jnp.zeros_like, gradients)
    muon = make_optimizer("muon", lambda step: 0.1, 0.0)
    updates, _ = jax.jit(muon.update)(gradients, muon.init(params), params)
    of_gradient = np.linalg.svd(np.asarray(gradients["B"]).reshape(18, 4), compute_uv=False)
    assert of_gradient.max() / of_gradient.min() > 1.2 / 0.7
    matrices = [np.asarray(updates["A"][..., unit, :]).reshape(18, 4) for unit in range(5)]
    matrices += [np.asarray(updates[name]).reshape(18, -1) for name in "Bb"]
    for matrix in matrices:
        singular_values = np.linalg.svd(matrix, compute_uv=False)
        # Five Newton-Schulz steps bring singular values to between 0.7 and 1.2, by the method's authors.
        assert singular_values.max() / singular_values.min() < 1.2 / 0.7
        # 0.2 times the learning rate, by which the values' root mean square is scaled; within those 0.7 and 1.2.
        assert 0.7 <= np.sqrt(np.mean(matrix**2)) / (0.1 * 0.2) <= 1.2
    # Adam's first step is the learning rate against the gradient, and Nesterov's 1 + 0.9·0.1 / (1 - 0.9²) times that.
    np.testing.assert_allclose(updates["bias"], -0.1 * (1 + 0.09 / 0.19) * np.sign(gradients["bias"]), rtol=1e-4)


def test_what_is_no_optimizer():
    with pytest.raises(InputError, match="optimizer is 'sgd', but must be one of adam, muon"):
        make_optimizer("sgd", lambda step: 0.1, 0.0)
    with pytest.raises(InputError, match="weight_decay must be at least 0, not -0.1"):
        make_optimizer("adam", lambda step: 0.1, -0.1)
