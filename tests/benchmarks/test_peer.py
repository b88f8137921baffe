import jax
import numpy as np
import pytest

from coda_jax import CoDANet, add_inverse
from coda_jax.contributions import contributions
from coda_jax.training.losses import binary_cross_entropy

torch = pytest.importorskip("torch", reason="the peer needs PyTorch")

from benchmarks import peer  # noqa: E402

# Rectangular images and a stride, so that no two axes can be taken for each other.
MODEL = CoDANet(channels=(4, 3), ranks=(5, 2), kernel_sizes=(3, 2), strides=(2, 1), paddings=(1, 0), temperature=2.0)
IMAGES = np.random.default_rng(0).random((2, 6, 7, 3), np.float32)
LABELS = np.array([2, 0], np.int32)


@pytest.fixture(scope="module")
def variables():
    return jax.jit(MODEL.init)(jax.random.key(0), add_inverse(IMAGES))


def assert_close(result, expected):
    """To the rounding of sums of at most 54 products in float32."""
    np.testing.assert_allclose(result, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


@pytest.fixture
def images():
    return torch.from_numpy(IMAGES).permute(0, 3, 1, 2)


@pytest.fixture
def network(variables):
    return peer.PlainCoDANet(MODEL, variables["params"])


def test_logits_are_ours(variables, network, images):
    with torch.no_grad():
        logits = network(peer.encode(images)).numpy()
    assert_close(logits - MODEL.logit_bias, jax.jit(MODEL.apply)(variables, add_inverse(IMAGES)) - MODEL.logit_bias)


@pytest.mark.parametrize(("targets", "classes"), [(None, None), ("all", 3)])
def test_contributions_are_ours(variables, network, images, targets, classes):
    expected = contributions(MODEL, variables, add_inverse(IMAGES), targets)
    assert_close(peer.to_numpy(peer.contributions(network, images, classes)), expected)


def test_gradients_are_ours(variables, network, images):
    def loss(params):
        return binary_cross_entropy(MODEL.apply({"params": params}, add_inverse(IMAGES)), LABELS).mean()

    expected_loss, expected = jax.jit(jax.value_and_grad(loss))(variables["params"])
    optimizer = torch.optim.SGD(network.parameters(), 1.0)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    assert_close(peer.train_step(network, optimizer, images, torch.from_numpy(LABELS).long()).numpy(), expected_loss)
    # With rate 1 a step subtracts the gradient; `PlainCoDANet` places ours as it does parameters.
    placed = peer.PlainCoDANet(MODEL, expected)
    for start, parameter, gradient in zip(before, network.parameters(), placed.parameters(), strict=True):
        assert_close(parameter.grad.numpy(), gradient.detach().numpy())
        assert_close(parameter.detach().numpy(), (start - gradient).detach().numpy())
