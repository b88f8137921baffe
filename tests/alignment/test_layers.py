import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coda_jax import InputError
from coda_jax.alignment.layers import DAUConv

INPUTS = jax.random.uniform(jax.random.key(1), (2, 8, 7, 6))


def test_parameters_have_pytorchs_initial_distribution():
    params = jax.jit(DAUConv(features=20, rank=16, kernel_size=3).init)(jax.random.key(0), INPUTS)["params"]
    assert {name: array.shape for name, array in params.items()} == {
        "B": (3, 3, 6, 16),
        "A": (3, 3, 6, 20, 16),
        "b": (3, 3, 6, 20),
    }
    for name, fan_in in (("B", 54), ("A", 16), ("b", 16)):
        bound = fan_in**-0.5
        assert np.abs(params[name]).max() <= bound
        # Uniform in ±bound: standard deviation bound/√3; at least 864 values, so 5% is over two standard errors.
        np.testing.assert_allclose(np.std(params[name]), bound / 3**0.5, rtol=0.05)
        assert abs(np.mean(params[name])) < 0.1 * bound


@pytest.mark.parametrize(("dtype", "map_dtype"), [(jnp.float32, jnp.float32), (jnp.bfloat16, jnp.float32)])
def test_shapes_and_dtypes(dtype, map_dtype):
    layer = DAUConv(features=5, rank=4, kernel_size=3, stride=2, padding=1, dtype=dtype)
    variables = jax.jit(layer.init)(jax.random.key(0), INPUTS)
    outputs, linear = jax.jit(layer.apply)(variables, INPUTS)
    assert all(array.dtype == jnp.float32 for array in jax.tree.leaves(variables))
    assert (outputs.shape, outputs.dtype, linear.s.dtype) == ((2, 4, 4, 5), dtype, map_dtype)


def test_bfloat16_is_close_to_float32():
    layer = DAUConv(features=5, rank=32, kernel_size=3)
    variables = jax.jit(layer.init)(jax.random.key(0), INPUTS)
    exact, _ = jax.jit(layer.apply)(variables, INPUTS)
    rounded, _ = jax.jit(layer.clone(dtype=jnp.bfloat16).apply)(variables, INPUTS)
    # bfloat16 keeps 8 bits: relative errors of 2⁻⁹ in each of inputs, parameters and h, averaged over the sums.
    np.testing.assert_allclose(np.float32(rounded), exact, atol=2e-2 * np.abs(exact).max())


def test_inputs_of_other_channels():
    layer = DAUConv(features=5, rank=4, kernel_size=3)
    variables = jax.jit(layer.init)(jax.random.key(0), INPUTS)
    with pytest.raises(InputError, match="takes 6 channels, but its input has 3: encode images with"):
        layer.apply(variables, INPUTS[..., :3])
