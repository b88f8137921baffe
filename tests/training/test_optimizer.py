import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from coda_jax import InputError
from coda_jax.training.optimizer import learning_rate_schedule, make_optimizer

PAPER = {
    "learning_rate": 0.8,
    "schedule": "step",
    "decay": 2.0,
    "decay_epochs": 2,
    "warmup_epochs": 0,
    "warmup_from": 0.0,
    "num_epochs": 5,
    # Epochs 0, 1, 2, 3 begin with steps 0, 3, 5, 8 (counted from 0).
    "batch_size": 4,
    "num_examples": 10,
}


def rates(steps, **changes):
    schedule = learning_rate_schedule(**{**PAPER, **changes})
    return [float(jax.jit(schedule)(step)) for step in range(steps)]


def test_rate_is_divided_after_every_decay_epochs():
    np.testing.assert_allclose(rates(12), [0.8] * 5 + [0.4] * 5 + [0.2] * 2, rtol=1e-6)  # float32.


def test_warm_up_grows_by_the_step_and_epochs_are_counted_from_the_start():
    expected = [0.2, 0.32, 0.44, 0.56, 0.68, *[0.4] * 5, 0.2]  # 2 epochs are 5 steps.
    np.testing.assert_allclose(rates(11, warmup_epochs=2, warmup_from=0.2), expected, rtol=1e-6)


def test_cosine_falls_to_zero_at_the_end_of_all_epochs():
    # 5 epochs are 13 steps, of which 3 are the warm-up: half of the rate is left after 5 of 10.
    found = rates(15, schedule="cosine", warmup_epochs=1)
    np.testing.assert_allclose(found[:4], [0, 0.8 / 3, 1.6 / 3, 0.8], rtol=1e-6)
    np.testing.assert_allclose([found[8], found[13], found[14]], [0.4, 0, 0], atol=1e-6)
    assert all(first > second for first, second in zip(found[3:13], found[4:14], strict=True))


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "linear"}, "schedule is 'linear', but must be one of step, cosine"),
        ({"learning_rate": -1.0}, "learning_rate must be at least 0, not -1.0"),
        ({"warmup_from": float("nan")}, "warmup_from must be finite, not nan"),
        ({"warmup_epochs": -1}, "warmup_epochs must be at least 0, not -1"),
        ({"decay": 0.0}, "decay must be above 0, not 0.0"),
        ({"decay_epochs": 0}, "decay_epochs must be at least 1, not 0"),
    ],
)
def test_what_no_schedule_can_be_made_of(changes, message):
    with pytest.raises(InputError, match=message):
        learning_rate_schedule(**{**PAPER, **changes})


def test_what_is_no_optimizer():
    with pytest.raises(InputError, match="optimizer is 'sgd', but must be one of adam, muon"):
        make_optimizer("sgd", lambda step: 0.1, 0.0)
    with pytest.raises(InputError, match="weight_decay must be at least 0, not -0.1"):
        make_optimizer("adam", lambda step: 0.1, -0.1)
