import jax
import jax.numpy as jnp
import numpy as np

from coda_jax.networks.convolution import ConventionalNet, NormalisedConvolution

# One channel in and out; the kernel passes on the pixel itself, so that all that is left is the normalisation.
KERNEL = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)


def _variables(mean, var, scale, bias):
    norm = {"scale": jnp.array([scale]), "bias": jnp.array([bias])}
    statistics = {"mean": jnp.array([mean]), "var": jnp.array([var])}
    return {"params": {"Conv_0": {"kernel": KERNEL}, "BatchNorm_0": norm}, "batch_stats": {"BatchNorm_0": statistics}}


def test_running_averages_and_relu():
    x = jnp.array([1.0, 3.0, 5.0, 7.0]).reshape(1, 2, 2, 1)
    variables = _variables(mean=3.0, var=4.0, scale=2.0, bias=0.5)
    apply = NormalisedConvolution(1).apply
    # (x - 3) / 2 · 2 + 0.5 = x - 2.5; the 1e-5 that is added to the variance changes it by about 1e-6.
    np.testing.assert_allclose(apply(variables, x, False).ravel(), [0, 0.5, 2.5, 4.5], atol=1e-5)
    linear = NormalisedConvolution(1, activation=None).apply(variables, x, False)
    np.testing.assert_allclose(linear.ravel(), [-1.5, 0.5, 2.5, 4.5], atol=1e-5)


def test_statistics_of_the_batch():
    x = jnp.array([1.0, 3.0, 5.0, 7.0]).reshape(2, 1, 2, 1)  # Mean 4, variance 5.
    variables = _variables(mean=0.0, var=1.0, scale=1.0, bias=0.0)
    y, changed = NormalisedConvolution(1, activation=None).apply(variables, x, True, mutable=["batch_stats"])
    np.testing.assert_allclose(y.ravel(), np.array([-3, -1, 1, 3]) / np.sqrt(5), rtol=1e-5)  # As above.
    statistics = changed["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(statistics["mean"], [0.4], rtol=1e-6)
    np.testing.assert_allclose(statistics["var"], [0.9 + 0.5], rtol=1e-6)


def test_stride():
    model = NormalisedConvolution(1, stride=2, activation=None)
    x = jnp.arange(15.0).reshape(1, 3, 5, 1)
    y = model.apply(_variables(mean=0.0, var=1.0, scale=1.0, bias=0.0), x, False)
    np.testing.assert_allclose(y[0, :, :, 0], [[0, 2, 4], [10, 12, 14]], rtol=1e-5)  # As above.


def test_computes_in_bfloat16_with_parameters_in_float32():
    model = NormalisedConvolution(4, dtype="bfloat16")
    output, variables = jax.eval_shape(
        lambda key, x: model.init_with_output(key, x, False), jax.random.key(0), jnp.zeros((1, 4, 4, 3))
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert output.dtype == jnp.bfloat16


class Identity(ConventionalNet):
    num_classes: int = 1
    dtype: jnp.dtype = jnp.bfloat16

    def features(self, x, train):
        return x[..., :1].astype(self.dtype)


def test_the_mean_is_float32():
    inputs = jnp.broadcast_to(jnp.array([1, 1 + 2**-7]).reshape(1, 1, 2, 1), (1, 1, 2, 6))
    variables = {"params": {"head": {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}}}
    assert Identity().apply(variables, inputs).item() == 1 + 2**-8  # bfloat16 has no number between the two.
