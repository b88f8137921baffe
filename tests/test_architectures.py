import pytest

from coda_jax import CoDANet, InputError
from coda_jax.architectures import make_model

SIZES = {"channels": [6, 2], "ranks": [4, 4], "kernel_sizes": [3, 1], "strides": [1, 1], "paddings": [1, 0]}


def test_a_coda_net_by_name_and_without():
    assert make_model(SIZES) == make_model({**SIZES, "architecture": "coda_net"}) == CoDANet(**SIZES)


def test_what_is_wrong_is_said():
    with pytest.raises(InputError, match="architecture is 'perceptron', but must be one of coda_net"):
        make_model({"architecture": "perceptron"})
    with pytest.raises(InputError, match="the configuration's model: .*'depth'"):
        make_model({**SIZES, "depth": 3})
    with pytest.raises(InputError, match="the configuration's model: .*'paddings'"):
        make_model({key: value for key, value in SIZES.items() if key != "paddings"})
