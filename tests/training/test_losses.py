import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coda_jax import CoDANet, InputError
from coda_jax.training.losses import binary_cross_entropy, draw_penalised_classes, weight_penalty
from tests.parameters import random_variables

MODEL = CoDANet(channels=(5, 3), ranks=(2, 2), kernel_sizes=(3, 1), strides=(2, 1), paddings=(1, 0), temperature=2.0)
INPUTS = np.random.default_rng(1).random((4, 5, 5, 6), np.float32)
VARIABLES = random_variables(MODEL)
LABELS, OTHERS = jnp.array([0, 1, 2, 0]), jnp.array([1, 0, 0, 2])
BOTH = jnp.stack([LABELS, OTHERS], axis=1)


def test_by_hand():
    # Label 0: -log σ(0) - log(1 - σ(log 3)) = log 2 + log 4, averaged over the two classes.
    loss = binary_cross_entropy(jnp.array([[0.0, math.log(3)]]), jnp.array([0]))
    np.testing.assert_allclose(loss, [(math.log(2) + math.log(4)) / 2], rtol=1e-6)


def test_large_logits_do_not_overflow():
    loss = binary_cross_entropy(jnp.array([[1000.0, -1000.0], [-1000.0, 1000.0]]), jnp.array([0, 0]))
    np.testing.assert_allclose(loss, [0, 1000], rtol=1e-6)


@jax.jit
def penalty_of_the_dense_matrix(variables):
    _, linear_map = MODEL.apply(variables, INPUTS, method="decompose")
    matrix = linear_map.dense()  # [N, K, H, W, C]
    rows = jnp.stack([matrix[jnp.arange(4), LABELS], matrix[jnp.arange(4), OTHERS]])
    return jnp.mean(jnp.abs(rows), axis=(0, 2, 3, 4))


@jax.jit
def penalty(variables, classes=BOTH):
    _, linear_map = MODEL.apply(variables, INPUTS, method="decompose")
    return weight_penalty(linear_map, classes)


def test_the_penalty_and_its_gradient_are_those_of_the_dense_matrix():
    # float32 sums of some hundred terms, in another order.
    np.testing.assert_allclose(penalty(VARIABLES), penalty_of_the_dense_matrix(VARIABLES), rtol=1e-5)
    ours, expected = (
        jax.jit(jax.grad(lambda variables, function=function: function(variables).sum()))(VARIABLES)
        for function in (penalty, penalty_of_the_dense_matrix)
    )
    for gradient, reference in zip(*map(jax.tree.leaves, (ours, expected)), strict=True):
        assert np.abs(reference).max() > 0
        np.testing.assert_allclose(gradient, reference, rtol=0, atol=1e-5 * np.abs(reference).max())


def test_the_gradient_of_the_penalty_goes_through_the_weights():
    """It is the slope of the penalty as a function of the parameters."""
    gradient = jax.grad(lambda variables: penalty(variables).sum())(VARIABLES)
    direction = jax.tree.map(jnp.sign, gradient)

    def moved(step):
        return penalty(jax.tree.map(lambda leaf, sign: leaf + step * sign, VARIABLES, direction)).sum()

    slope = sum(jnp.vdot(g, d) for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
    # Of the order of the step, where a value changes its sign, and of float32's 1e-7 over the step.
    np.testing.assert_allclose((moved(1e-3) - moved(-1e-3)) / 2e-3, slope, rtol=1e-2)


def test_penalised_classes():
    labels = jnp.tile(jnp.arange(5), 400)
    drawn = draw_penalised_classes(jax.random.key(0), labels, jnp.arange(2000), 5)
    counts = np.bincount(np.asarray((drawn - labels) % 5), minlength=5)
    # Four standard deviations of the numbers among 2,000 draws.
    np.testing.assert_allclose(counts[0], 1000, atol=4 * (2000 / 2 * 1 / 2) ** 0.5)
    np.testing.assert_allclose(counts[1:], 250, atol=4 * (2000 / 8 * 7 / 8) ** 0.5)
    reversed_ = draw_penalised_classes(jax.random.key(0), labels[::-1], jnp.arange(2000)[::-1], 5)
    np.testing.assert_array_equal(reversed_[::-1], drawn)  # Each example's own position decides.
    assert (draw_penalised_classes(jax.random.key(1), labels, jnp.arange(2000), 5) != drawn).any()
    with pytest.raises(InputError, match="num_classes must be at least 2, not 1"):
        draw_penalised_classes(jax.random.key(0), labels, jnp.arange(2000), 1)


def test_the_drawn_row_is_expected_to_be_as_large_as_both():
    """The mean over all that can be drawn, with their probabilities, is the mean over the own row and the others'."""
    own, *others = (penalty(VARIABLES, (LABELS[:, None] + step) % 3) for step in range(3))
    both = [penalty(VARIABLES, jnp.stack([LABELS, (LABELS + step) % 3], axis=1)) for step in (1, 2)]
    np.testing.assert_allclose(own / 2 + sum(others) / 4, sum(both) / 2, rtol=1e-5)  # float32.


def test_labels_that_a_compiled_function_closes_over():
    labels, wrong = jnp.array([0, 2]), jnp.array([0, 3])
    compiled = jax.jit(lambda logits: binary_cross_entropy(logits, labels))
    np.testing.assert_allclose(compiled(jnp.zeros((2, 3))), np.log(2), rtol=1e-6)
    with pytest.raises(InputError, match="label 3 is not a class"):
        jax.jit(lambda logits: binary_cross_entropy(logits, wrong))(jnp.zeros((2, 3)))
