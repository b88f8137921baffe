import numpy as np
import pytest

from coda_jax import CoDANet, InputError
from coda_jax.networks.bcos_resnet import BcosResNet
from coda_jax.networks.variables import check_variables, variable_shapes
from tests.parameters import random_variables

CODA = CoDANet((2, 3), (2, 4), (3, 1), (2, 1), (1, 0))
BCOS = BcosResNet(blocks=(1,), num_classes=3, width=4, small_images=True)


def test_shapes_by_hand():
    assert variable_shapes(CODA) == {
        ("params", "layers_0", "A"): (3, 3, 6, 2, 2),
        ("params", "layers_0", "B"): (3, 3, 6, 2),
        ("params", "layers_0", "b"): (3, 3, 6, 2),
        ("params", "layers_1", "A"): (1, 1, 2, 3, 4),
        ("params", "layers_1", "B"): (1, 1, 2, 4),
        ("params", "layers_1", "b"): (1, 1, 2, 3),
    }
    normalised = {("conv1",): 6, ("layer1_0", "conv1"): 4, ("layer1_0", "conv2"): 4}
    assert variable_shapes(BCOS) == {
        ("params", "fc", "kernel"): (1, 1, 4, 3),
        **{("params", *layer, "kernel"): (3, 3, channels, 4) for layer, channels in normalised.items()},
        **{("params", *layer, "norm"): (4,) for layer in normalised},
        **{("batch_stats", *layer, "variance"): (4,) for layer in normalised},
    }


@pytest.mark.parametrize("model", [CODA, BCOS], ids=["coda", "bcos"])
def test_their_own_pass_and_others_are_named(model):
    variables = random_variables(model)
    check_variables(model, variables)
    check_variables(model, {**variables, "gram": {}})
    with pytest.raises(InputError, match='variables must be a mapping with the collection "params"'):
        check_variables(model, {})
    layer = next(iter(variables["params"]))
    for entry, found in ((None, "None"), ({}, "None"), (dict.fromkeys(variables["params"][layer], np.ones(7)), "(7,)")):
        changed = {**variables, "params": {**variables["params"], layer: entry}}
        with pytest.raises(InputError) as refusal:
            check_variables(model, changed)
        assert str(refusal.value).startswith(f"variables must have params/{layer}/")
        assert str(refusal.value).endswith(f", not {found}")


def test_batch_statistics_are_asked_for():
    variables = {"params": random_variables(BCOS)["params"]}
    with pytest.raises(InputError, match=r"have batch_stats/conv1/variance of shape \(4,\), not None"):
        check_variables(BCOS, variables)


def test_what_is_no_network():
    with pytest.raises(InputError, match="model must be a CoDANet or BcosResNet, not None"):
        check_variables(None, {})
