from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import struct

from coda_jax import CoDANet, InputError, from_pretrained, save_pretrained
from coda_jax.alignment import dau
from coda_jax.contributions import contributions
from coda_jax.interop.torch import to_state_dict
from coda_jax.networks.coda_net import L_CODA, LAYERS, M_CODA, S_CODA, XS_CODA, layers_for
from coda_jax.training.losses import binary_cross_entropy
from tests.golden import DTYPES, GOLDEN, TOLERANCE, TRAINED, assert_close, golden_inputs, golden_network


@pytest.mark.parametrize(
    ("size", "parameters"),
    [(XS_CODA, 310_528), (S_CODA, 7_782_816), (M_CODA, 17_954_336), (L_CODA, 47_517_408)],
)
def test_number_of_parameters(size, parameters):
    model = CoDANet(**size, temperature=1.0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 6)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == parameters


@pytest.mark.parametrize(
    ("size", "stride", "positions"),
    [(32, 1, 8), (63, 1, 15), (64, 2, 8), (96, 2, 12), (127, 2, 15), (128, 4, 8), (224, 4, 14), (256, 8, 8)],
)
def test_layers_for_images_of_any_size(size, stride, positions):
    layers = layers_for(size)
    assert layers["strides"] == (stride, 2, 2, 1, 1)
    assert all(kernel % stride == 0 for kernel, stride in zip(layers["kernel_sizes"], layers["strides"], strict=True))
    model = CoDANet(**layers | {"channels": (*layers["channels"][:-1], 10)})
    inputs = jax.ShapeDtypeStruct((1, size, size, 6), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    _, linear_map = jax.eval_shape(lambda *given: model.apply(*given, method="decompose"), variables, inputs)
    assert linear_map.layers[-1].input_shape == (positions, positions, 10)
    if size == 64:
        assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 1_567_616


def test_layers_for_what_is_no_size():
    with pytest.raises(InputError, match="image_size must be a whole number, not None"):
        layers_for(None)


def test_m_coda_has_eight_times_eight_positions():
    model = CoDANet(**M_CODA)
    inputs = jax.ShapeDtypeStruct((1, 64, 64, 6), jnp.float32)
    decompose = partial(model.init_with_output, method="decompose")
    (_, linear_map), _ = jax.eval_shape(decompose, jax.random.key(0), inputs)
    assert linear_map.inputs[-1].shape == (1, 8, 8, 200)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", GOLDEN)
def test_logits_and_activations_are_the_authors(golden, name, dtype):
    arrays = golden(name)
    with jax.enable_x64(dtype == jnp.float64):
        model, variables = golden_network(arrays, "state_dict/", dtype)
        decompose = jax.jit(partial(model.apply, method="decompose"))
        logits, linear_map = decompose(variables, golden_inputs(arrays, dtype))
        assert logits.dtype == dtype
        assert_close(logits, arrays["logits"], TOLERANCE[dtype])
        _, *activations = linear_map.inputs
        for layer, ours in enumerate(activations):
            golden_activation = arrays[f"activations/{layer}"].transpose(0, 2, 3, 1)
            assert_close(ours, golden_activation, max(TOLERANCE[dtype], 1e-7))  # They are stored in float32.


@pytest.mark.slow
@pytest.mark.parametrize("form", ["factored", "dense"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TRAINED)
def test_gradients_and_five_adam_steps_are_the_authors(golden, name, dtype, form, monkeypatch):
    monkeypatch.setattr(dau, "cheapest_form", lambda *_: form)
    arrays = golden(name)
    with jax.enable_x64(dtype == jnp.float64):
        model, variables = golden_network(arrays, "state_dict/", dtype)
        inputs = golden_inputs(arrays, dtype)

        optimizer = optax.adam(2.5e-4)

        @jax.jit
        def step(variables, state):
            loss, gradients = jax.value_and_grad(
                lambda variables: jnp.mean(binary_cross_entropy(model.apply(variables, inputs), arrays["labels"]))
            )(variables)
            updates, state = optimizer.update(gradients, state)
            return loss, gradients, optax.apply_updates(variables, updates), state

        state = jax.jit(optimizer.init)(variables)
        for number, golden_loss in enumerate(arrays["adam_losses"]):
            loss, gradients, variables, state = step(variables, state)
            np.testing.assert_allclose(loss, golden_loss, rtol=TOLERANCE[dtype])
            if number == 0:
                _, expected = golden_network(arrays, "grads/", dtype)
                jax.tree.map(partial(assert_close, tolerance=TOLERANCE[dtype]), gradients, expected)
        _, expected = golden_network(arrays, "params_after_5_adam_steps/", dtype)
        jax.tree.map(partial(assert_close, tolerance=TOLERANCE[dtype]), variables, expected)


SMALL = {"channels": (4, 3), "ranks": (5, 2), "kernel_sizes": (3, 2), "strides": (2, 1), "paddings": (1, 0)}


@pytest.mark.precision
def test_bfloat16_gives_float32_logits_close_to_float32():
    inputs = jax.random.uniform(jax.random.key(1), (2, 6, 6, 6))
    model = CoDANet(**SMALL, logit_bias=0.0)
    variables = jax.jit(model.init)(jax.random.key(0), inputs)
    logits = jax.jit(model.clone(dtype=jnp.bfloat16).apply)(variables, inputs)
    assert logits.dtype == jnp.float32
    exact = jax.jit(model.apply)(variables, inputs)
    # bfloat16 keeps 8 bits: 2⁻⁹ relative at each of about five roundings a layer.
    np.testing.assert_allclose(logits, exact, atol=2e-2 * np.abs(exact).max())


@struct.dataclass
class Weights:
    """The map of a `GatedDense` layer: `weights` [N, C, K]."""

    weights: jax.Array

    def apply(self, inputs):
        return jnp.einsum("nhwc,nck->nhwk", inputs, self.weights)

    def transpose(self, cotangents):
        return jnp.einsum("nthwk,nck->nthwc", cotangents, self.weights)


class GatedDense(nn.Module):
    """At every position the same matrix, with a gate for each unit that depends on the whole input."""

    features: int
    rank: int
    kernel_size: int
    stride: int
    padding: int
    norm: str
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs):
        shape = (inputs.shape[-1], self.features)
        kernel, gate = (self.param(name, nn.initializers.normal(), shape) for name in ("kernel", "gate"))
        linear = Weights(kernel * jax.nn.sigmoid(inputs.mean((1, 2)) @ gate)[:, None])
        return linear.apply(inputs), linear


def test_other_layers_are_a_line_in_the_table(monkeypatch, tmp_path):
    monkeypatch.setitem(LAYERS, "gated", GatedDense)
    sizes = {name: (1, 1) for name in ("ranks", "kernel_sizes", "strides")}
    model = CoDANet(channels=(4, 3), **sizes, paddings=(0, 0), temperature=0.01, layer="gated")
    inputs = jax.random.uniform(jax.random.key(1), (2, 6, 6, 6))
    variables = jax.jit(model.init)(jax.random.key(0), inputs)
    logits = jax.jit(model.apply)(variables, inputs)
    maps = contributions(model, variables, inputs, "all")
    # float32: sums of 216 values.
    np.testing.assert_allclose(maps.sum((2, 3, 4)), logits - model.logit_bias, rtol=1e-4, atol=1e-5)
    assert np.ptp(logits, axis=0).min() > 1e-3
    np.testing.assert_allclose(model.apply(model.with_gram(variables), inputs), logits, rtol=1e-5)  # Uncompiled.
    save_pretrained(tmp_path, model, variables)
    loaded, again, _ = from_pretrained(tmp_path)
    assert loaded.layer == "gated"
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    with pytest.raises(InputError, match="the authors' implementation has DAU layers only, not 'gated'"):
        to_state_dict(model, variables)


def test_under_vmap_and_eval_shape():
    inputs = jax.random.uniform(jax.random.key(1), (4, 6, 6, 6))
    model = CoDANet(**SMALL)
    variables = jax.jit(model.init)(jax.random.key(0), inputs)
    one_by_one = jax.jit(jax.vmap(lambda one: model.apply(variables, one[None])[0]))(inputs)
    np.testing.assert_allclose(one_by_one, jax.jit(model.apply)(variables, inputs), rtol=1e-5)
    assert jax.eval_shape(model.apply, variables, inputs).shape == (4, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ranks": (5,)}, "lengths are: channels 2, ranks 1, kernel_sizes 2"),
        ({name: () for name in SMALL}, "one value a layer"),
        ({"strides": (0, 1)}, "strides must be whole numbers of at least 1"),
        ({"paddings": (-1, 0)}, "paddings must be whole numbers of at least 0"),
        ({"ranks": (5, 2.5)}, "ranks must be whole numbers"),
        ({"ranks": 5}, "ranks must be whole numbers of at least 1, one a layer, not 5"),
        ({"norm": "SQ"}, "norm is 'SQ', but must be one of sq, l2"),
        ({"layer": "conv"}, "layer is 'conv', but must be one of dau"),
        ({"dtype": jnp.float16}, "dtype is 'float16', but must be one of float32, bfloat16, float64"),
        ({"dtype": "half-precision"}, "dtype is 'half-precision', but must be one of float32"),
        ({"temperature": 0.0}, "temperature must be above 0, not 0.0"),
    ],
)
def test_bad_attributes(changes, message):
    with pytest.raises(InputError, match=message):
        CoDANet(**(SMALL | changes))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (jnp.zeros((6, 6, 6)), r"inputs must be floating-point \[N, H, W, C\], not float32 \[6, 6, 6\]"),
        (jnp.zeros((1, 6, 6, 6), jnp.uint8), "not uint8"),
        (jnp.zeros((1, 6, 6, 3)), "takes 6 channels, but its input has 3"),
        (jnp.zeros((1, 1, 1, 6)), "kernel of 2 does not fit into 1 pixels"),
    ],
)
def test_bad_inputs(inputs, message):
    model = CoDANet(**SMALL)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 6, 6, 6)))
    with pytest.raises(InputError, match=message):
        model.apply(variables, inputs)


@pytest.mark.precision
def test_known_gram_matrices_change_no_value():
    model = CoDANet(channels=(8, 4), ranks=(8, 8), kernel_sizes=(3, 3), strides=(2, 1), paddings=(1, 1))
    inputs = jnp.asarray(np.random.default_rng(0).random((2, 16, 16, 6)), jnp.float32)
    variables = jax.jit(model.init)(jax.random.key(0), inputs)
    apply = jax.jit(model.apply)
    ready = jax.jit(model.with_gram)(variables)
    assert ready["params"].keys() == ready["gram"].keys() == variables["params"].keys()
    # The same products, compiled into other programs.
    np.testing.assert_allclose(apply(ready, inputs), apply(variables, inputs), rtol=1e-6)
    np.testing.assert_allclose(
        contributions(model, ready, inputs, "all"), contributions(model, variables, inputs, "all"), rtol=1e-4, atol=1e-7
    )
    changed = jax.tree.map(lambda array: 2 * array, ready["gram"])
    assert not np.allclose(apply({**ready, "gram": changed}, inputs), apply(variables, inputs), rtol=1e-4)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (CoDANet(**XS_CODA, temperature=1000.0), "5L-XS-CoDA-SQ-1000"),
        (CoDANet(**S_CODA, temperature=64.0, norm="l2"), "9L-S-CoDA-L2-64"),
        (CoDANet(**M_CODA, temperature=1000.0), "9L-M-CoDA-SQ-1000"),
        (CoDANet(**L_CODA, temperature=1e5), "9L-L-CoDA-SQ-100000"),
        (CoDANet(**{**XS_CODA, "ranks": (8, 8, 8, 8, 8)}, temperature=2.5), "5L-CoDA-SQ-2.5"),
    ],
)
def test_networks_have_the_names_of_their_configurations(model, name):
    assert model.title == name
