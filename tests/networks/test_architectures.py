import pytest

from coda_jax import CoDANet, HybridNet, InputError
from coda_jax.networks.architectures import make_model
from coda_jax.networks.bcos_resnet import BcosResNet
from coda_jax.networks.resnet import ResNet, ResNetTrunk
from coda_jax.networks.vgg import VGG

SIZES = {"channels": [6, 2], "ranks": [4, 4], "kernel_sizes": [3, 1], "strides": [1, 1], "paddings": [1, 0]}


def test_a_coda_net_by_name_and_without():
    assert make_model(SIZES) == make_model({**SIZES, "architecture": "coda_net"}) == CoDANet(**SIZES)


def test_a_hybrid():
    trunk = {"architecture": "resnet", "depth": 8, "blocks": 2}
    model = make_model({"architecture": "hybrid", "trunk": trunk, "head": SIZES})
    assert model == HybridNet(ResNetTrunk(depth=8, blocks=2), CoDANet(**SIZES))
    assert {model: 1}  # Can be hashed, as what is compiled for it asks.
    assert (model.title, model.gradcam_layer) == ("hybrid after 2 of 3 blocks of ResNet-8", "head/layers_1")
    for changed, message in (
        ({"trunk": {**trunk, "architecture": "alexnet"}}, "the trunk's architecture is 'alexnet', but must be one of"),
        ({"trunk": {"depth": 8, "blocks": 2}}, "the trunk's architecture is None, but must be one of resnet"),
        ({"trunk": {**trunk, "stages": 2}}, "the configuration's model: .*'stages'"),
        ({"head": {**SIZES, "norm": "l3"}}, "norm is 'l3'"),
        ({"head": None}, "the configuration's model: "),
    ):
        with pytest.raises(InputError, match=message):
            make_model({"architecture": "hybrid", "trunk": trunk, "head": SIZES, **changed})
    with pytest.raises(InputError, match="dtype is float64, which JAX computes with only where"):
        make_model({"architecture": "hybrid", "trunk": trunk, "head": {**SIZES, "dtype": "float64"}})


def test_networks_to_compare_with():
    assert make_model({"architecture": "resnet", "depth": 8, "num_classes": 3}) == ResNet(depth=8, num_classes=3)
    bcos = {"blocks": [1, 1], "num_classes": 3, "small_images": True}
    assert make_model({"architecture": "bcos_resnet", **bcos}) == BcosResNet(**bcos)
    stages = {"stages": [[4, 5], [6]], "num_classes": 3}
    assert make_model({"architecture": "vgg", **stages}) == VGG(**stages)


def test_what_is_wrong_is_said():
    with pytest.raises(InputError, match="architecture is 'perceptron', but must be one of coda_net"):
        make_model({"architecture": "perceptron"})
    with pytest.raises(InputError, match="the configuration's model: .*'depth'"):
        make_model({**SIZES, "depth": 3})
    with pytest.raises(InputError, match="the configuration's model: .*'paddings'"):
        make_model({key: value for key, value in SIZES.items() if key != "paddings"})


@pytest.mark.parametrize(
    ("model", "quantity", "decomposes"),
    [
        (CoDANet(**SIZES), "contributions", True),
        (HybridNet(ResNetTrunk(8, 2), CoDANet(**SIZES)), "contributions of the features (upsampled)", True),
        (BcosResNet([1, 1], 3), "contributions", True),
        (ResNet(8, 3), "Grad-CAM attributions", False),
        (VGG(((4, 5), (6,)), 3), "Grad-CAM attributions", False),
    ],
    ids=["CoDANet", "HybridNet", "BcosResNet", "ResNet", "VGG"],
)
def test_networks_say_what_their_maps_are_maps_of(model, quantity, decomposes):
    assert (model.quantity, hasattr(model, "decompose")) == (quantity, decomposes)
    assert model.title and model.layer_names
    assert model.gradcam_layer.split("/")[0] in model.layer_names
