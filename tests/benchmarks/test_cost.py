import jax
import jax.numpy as jnp
import pytest

from benchmarks import cost
from coda_jax import CoDANet
from coda_jax.networks.coda_net import S_CODA


def one_layer(rank):
    """3 units of kernels 2×2 on 4×4 pixels of 6 channels without padding: 9 positions, patches of 24 values."""
    return CoDANet(channels=(3,), ranks=(rank,), kernel_sizes=(2,), strides=(1,), paddings=(0,))


def test_factored_layer_by_hand():
    # A position: h 2·24·5 = 240, u 2·24·5·3 = 720, bᵀp 2·24·3 = 144, Gh 2·5·5·3 = 150, three dot products 6·5·3 = 90.
    # A batch: 2·24·3·(25 + 5 + 1) = 4464.
    assert cost.forward_flops(one_layer(5), 4, batch_size=2) == 2 * 9 * (240 + 720 + 144 + 150 + 90) + 4464
    assert cost.train_flops(one_layer(5), 4, batch_size=2) == 3 * cost.forward_flops(one_layer(5), 4, batch_size=2)


def test_dense_layer_by_hand():
    # h 2·24·30 = 1440, v 2·24·30·3 = 4320, its bias, norm and dot product 5·24·3 = 360.
    assert cost.forward_flops(one_layer(30), 4, batch_size=2) == 2 * 9 * (1440 + 4320 + 360)


@pytest.mark.parametrize(("targets", "a_position"), [(1, 2 * 24 * 3 * 6), (3, 2 * 24 * 3 * 8)])
def test_transpose_by_hand(targets, a_position):
    model = one_layer(5)
    forward = cost.forward_flops(model, 4, batch_size=2)
    assert cost.explain_flops(model, 4, 2, targets) == forward + 2 * 9 * a_position


def test_s_coda_is_what_xla_counts():
    model = CoDANet(**S_CODA)
    inputs = jax.ShapeDtypeStruct((1, 32, 32, 6), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    counted = jax.jit(model.apply).lower(variables, inputs).cost_analysis()["flops"]
    # Beside the products XLA counts what is done to each value: padding, patches, rescaling.
    assert cost.forward_flops(model, 32, 1) == pytest.approx(counted, rel=0.05)
