import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coda_jax import CoDANet, InputError
from coda_jax.contributions import contributions
from coda_jax.metrics.completeness import completeness_residual


def test_by_hand():
    attributions = jnp.array([[1.0, 2.0], [-4.0, 0.5]]).reshape(1, 2, 1, 2, 1)  # They sum to 3 and to -3.5.
    residual = completeness_residual(attributions, jnp.array([[5.0, -2.0]]), jnp.array([[1.0, 1.5]]))
    np.testing.assert_allclose(residual, [[1 / 4, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(completeness_residual(attributions, jnp.array([[5.0, -2.0]]), 1), [[0.25, 0.5 / 3]])


def test_nothing_to_explain():
    attributions = jnp.array([0.0, 1e-3]).reshape(2, 1, 1, 1, 1)
    np.testing.assert_array_equal(completeness_residual(attributions, jnp.ones((2, 1)), 1.0), [[0], [np.inf]])


@settings(max_examples=25, deadline=None)
@given(share=st.floats(-3, 3), seed=st.integers(0, 1000))
def test_a_share_of_complete_attributions_leaves_the_rest(share, seed):
    rng = np.random.default_rng(seed)
    attributions = rng.uniform(0.1, 1, (3, 2, 2, 3, 4)).astype(np.float32)
    sign = rng.choice([-1, 1])
    baseline = rng.normal(size=(3, 2)).astype(np.float32)
    logits = sign * attributions.sum((2, 3, 4)) + baseline
    # Rounding of logits of about 10 in float32.
    residual = completeness_residual(np.float32(sign * share) * attributions, logits, baseline)
    np.testing.assert_allclose(residual, np.full((3, 2), abs(1 - share)), rtol=0, atol=1e-5)


def test_contributions_of_a_network_are_complete():
    model = CoDANet((4, 3), (3, 2), (3, 1), (1, 1), (1, 0), temperature=0.1)
    inputs = jax.random.uniform(jax.random.key(1), (4, 5, 5, 6))
    variables = jax.jit(model.init)(jax.random.key(0), inputs)
    logits, black = jax.jit(model.apply)(variables, inputs), jax.jit(model.apply)(variables, jnp.zeros_like(inputs))
    np.testing.assert_array_equal(black, np.full((4, 3), model.logit_bias, np.float32))
    maps = contributions(model, variables, inputs, "all")
    size = np.abs(logits - model.logit_bias)
    bound = 1e-5 * (1 + np.abs(maps).sum((2, 3, 4)) / size)  # Contributions of both signs, summed in float32.
    assert np.all(completeness_residual(maps, logits, model.logit_bias) < bound)
    assert np.all(completeness_residual(maps, logits, 0.0) > 10 * bound)


def test_under_jit():
    attributions = np.random.default_rng(0).normal(size=(3, 2, 4, 4, 6))
    arguments = attributions, attributions[:, :, 0, 0, 0], np.zeros((3, 2))
    expected = completeness_residual(*arguments)
    np.testing.assert_allclose(
        jax.jit(completeness_residual)(*arguments), expected, rtol=1e-5
    )  # Another order of sums.
    assert jax.eval_shape(completeness_residual, *arguments).shape == (3, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"attributions": np.zeros((2, 3, 4, 4))},
            r"attributions must have shape \[N, T, H, W, C\], not \[2, 3, 4, 4\]",
        ),
        ({"logits": np.zeros((2, 10))}, r"logits must have shape \[2, 3\], one for each target, not \[2, 10\]"),
        ({"baseline_logits": np.zeros(10)}, r"baseline_logits must broadcast to \[2, 3\], but have shape \[10\]"),
        ({"baseline_logits": np.zeros((1, 2, 3))}, r"but have shape \[1, 2, 3\]"),
    ],
)
def test_bad_arguments(changes, message):
    arguments = {"attributions": np.zeros((2, 3, 4, 4, 6)), "logits": np.zeros((2, 3)), "baseline_logits": 0.0}
    with pytest.raises(InputError, match=message):
        completeness_residual(**arguments | changes)
