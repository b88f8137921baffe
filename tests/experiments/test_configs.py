import math

import jax
import jax.numpy as jnp
import pytest

from benchmarks.cost import forward_flops
from coda_jax import CoDANet, InputError
from coda_jax.networks.architectures import make_model
from coda_jax.networks.coda_net import L_CODA, S_CODA, XS_CODA, layers_for
from coda_jax.networks.variables import variable_shapes
from experiments.configs import cifar10, digits, image_folder, imagenet, imagenette, tiny_imagenet


def test_the_authors_names():
    expected = [f"9L-S-CoDA-SQ-{temperature}" for temperature in (10, 50, 100, 500, 1000, 5000, 10000)]
    expected += [f"9L-S-CoDA-SQ-rank-{rank}" for rank in (4, 8, 16, 144)] + ["9L-S-CoDA-L2-1000"]
    expected += [f"9L-S-CoDA-SQ-lambda-{weight}" for weight in ("0", "0.1", "0.25", "0.5", "1")]
    assert sorted(name for name in cifar10.CONFIGURATIONS if name.startswith("9L-S-CoDA")) == sorted(expected)


@pytest.mark.parametrize(
    ("name", "norm", "temperature", "ranks"),
    [
        ("9L-S-CoDA-SQ-10", "sq", 10.0, (32, 32, *(64,) * 7)),
        ("9L-S-CoDA-SQ-1000", "sq", 1000.0, (32, 32, *(64,) * 7)),
        ("9L-S-CoDA-L2-1000", "l2", 1000.0, (32, 32, *(64,) * 7)),
        ("9L-S-CoDA-SQ-rank-4", "sq", 1000.0, (4, 4, *(8,) * 7)),
        ("9L-S-CoDA-SQ-rank-144", "sq", 1000.0, (144, 144, *(288,) * 7)),
    ],
)
def test_s_coda(name, norm, temperature, ranks):
    config = cifar10.get_config(name)
    model = CoDANet(**config.model)
    assert (model.norm, model.temperature, model.ranks) == (norm, temperature, ranks)
    assert model.channels == (16, 16, 32, 32, 32, 64, 64, 64, 10)
    assert (config.batch_size, config.num_epochs, config.learning_rate) == (16, 200, 2.5e-4)
    assert (config.decay, config.decay_epochs, config.flip, config.crop_padding) == (1.5, 30, True, 4)


@pytest.mark.parametrize(
    ("name", "title", "epochs"),
    [
        ("ResNet-20", "ResNet-20", 200),
        ("ResNet-56", "ResNet-56", 200),
        ("VGG-11", "VGG-11", 200),
        ("ResNet-20-short", "ResNet-20", 6),
    ],
)
def test_networks_to_compare_with(name, title, epochs):
    config = cifar10.get_config(name)
    model = make_model(config.model.to_dict())
    assert (model.title, model.num_classes, model.dtype) == (title, 10, "float32")
    assert (config.num_epochs, config.schedule, config.batch_size) == (epochs, "cosine", 128)


def test_small_ones():
    for temperature in (10, 100, 1000):
        config = cifar10.get_config(f"5L-XS-CoDA-SQ-{temperature}")
        assert CoDANet(**config.model).temperature == temperature
        assert (config.batch_size, config.num_epochs, config.learning_rate, config.decay_epochs) == (64, 18, 2.5e-3, 3)
        better = cifar10.get_config(f"5L-XS-CoDA-SQ-{temperature}-muon")
        assert better.model == config.model
        assert (better.optimizer, better.schedule, better.num_epochs) == ("muon", "cosine", 18)
    assert CoDANet(**digits.get_config().model).channels[-1] == 10


def receptive_field(model):
    """The width, in pixels, of the square that one position of the last layer depends on."""
    width, step = 1, 1
    for kernel_size, stride in zip(model.kernel_sizes, model.strides, strict=True):
        width += (kernel_size - 1) * step
        step *= stride
    return width


def test_what_two_cores_train_in_two_hours():
    config = cifar10.get_config("5L-XS-CoDA-SQ-1000-two-hours")
    model, s_coda, xs_coda = CoDANet(**config.model), CoDANet(**S_CODA), CoDANet(**XS_CODA)
    # As its comment says.
    assert (receptive_field(model), receptive_field(s_coda), receptive_field(xs_coda)) == (38, 35, 19)
    even, uneven = (
        all(size % stride == 0 for size, stride in zip(net.kernel_sizes, net.strides, strict=True))
        for net in (model, xs_coda)
    )
    assert even and not uneven
    assert sum(map(math.prod, variable_shapes(model).values())) == 663_360
    assert (config.optimizer, config.schedule, config.batch_size) == ("muon", "cosine", 64)


def test_imagenette():
    config = imagenette.get_config("5L-XS128-CoDA-SQ-3000")
    model = CoDANet(**config.model)
    assert (model.temperature, config.image_size, config.crop_size) == (3000.0, 128, 96)
    assert (config.optimizer, config.schedule, config.crop_scale, config.colour) == ("muon", "cosine", 0.35, 0.2)
    for_gpus = imagenette.get_config("9L-M160-CoDA-SQ-100000")
    assert (for_gpus.image_size, for_gpus.model.temperature) == (160, 1e5)
    assert (for_gpus.num_epochs, for_gpus.warmup_epochs, for_gpus.optimizer) == (200, 50, "adam")
    # As the description says.
    assert sum(map(math.prod, variable_shapes(model).values())) == 1_938_304
    for of_name, costs in ((config, {96: 0.78, 128: 1.39}), (for_gpus, {144: 37, 160: 46})):
        network = CoDANet(**of_name.model)
        kernels = zip(network.kernel_sizes, network.strides, strict=True)
        assert all(size % stride == 0 for size, stride in kernels)
        for size, cost in costs.items():
            assert forward_flops(network, size, 64) / 64e9 == pytest.approx(cost, rel=0.01)


@pytest.mark.parametrize(
    ("config", "title", "parameters"),
    [
        (cifar10.get_config("B-cos-ResNet-10"), "B-cos ResNet-10", 1_228_384),
        (imagenette.get_config("B-cos-ResNet-16"), "B-cos ResNet-16", 1_623_584),
    ],
    ids=["cifar10", "imagenette"],
)
def test_b_cos(config, title, parameters):
    model = make_model(config.model.to_dict())
    assert (model.title, model.width, model.num_classes) == (title, 32, 10)
    # As their tables say.
    shapes = variable_shapes(model)
    assert sum(math.prod(shapes[path]) for path in shapes if path[0] == "params") == parameters
    assert (config.optimizer, config.schedule) == ("muon", "cosine")


def test_tiny_imagenet():
    config = tiny_imagenet.get_config("9L-M-CoDA-SQ-10000")
    assert (config.model.temperature, config.model.channels[-1]) == (10000.0, 0)  # Classes are counted.
    assert (config.flip, config.crop_padding, config.randaugment) == (True, 8, 0)
    small = tiny_imagenet.get_config("5L-XS64-CoDA-SQ-10")
    assert small.model.to_dict() == image_folder.get_config().model.to_dict() | layers_for(64) | {"temperature": 10.0}
    assert (small.dataset, small.warmup_epochs, small.num_epochs) == ("tiny_imagenet", 0, 20)


def test_imagenet():
    config = imagenet.get_config("9L-L-CoDA-SQ-100000")
    assert CoDANet(**config.model) == CoDANet(**L_CODA, temperature=1e5, dtype="float32")
    assert (config.dataset, config.batch_size, config.num_epochs) == ("imagenet100", 64, 60)
    assert (config.learning_rate, config.warmup_epochs, config.warmup_from) == (1e-3, 15, 2.5e-4)
    assert (config.decay, config.decay_epochs, config.schedule) == (2, 20, "step")
    assert (config.flip, config.crop_padding, config.randaugment) == (True, 0, 10)
    thousand = imagenet.get_config("9L-L1000-CoDA-SQ-100000")
    assert thousand.dataset == "imagenet"
    model = CoDANet(**thousand.model)
    assert (model.channels[-1], model.ranks[-1], model.kernel_sizes[-1], model.paddings[-1]) == (1000, 64, 1, 0)
    assert model.channels[:-1] == L_CODA["channels"][:-1]


@pytest.mark.parametrize("module", [cifar10, image_folder, imagenet, imagenette, tiny_imagenet])
def test_all_have_the_same_keys(module):
    names = {cifar10: ["5L-XS-CoDA-SQ-100"], imagenet: imagenet.NAMES, tiny_imagenet: ["9L-M-CoDA-SQ-1000"]}
    names[imagenette] = imagenette.NAMES
    for arguments in [(name,) for name in names[module]] if module in names else [()]:
        assert list(module.get_config(*arguments)) == list(digits.get_config())


@pytest.mark.parametrize(
    ("module", "near"),
    [(imagenet, "9L-L-CoDA-SQ-100000"), (imagenette, "5L-XS128-CoDA-SQ-1000"), (tiny_imagenet, "9L-M-CoDA-SQ-100")],
)
def test_other_files_without_the_configuration(module, near):
    with pytest.raises(InputError, match="holds several configurations: name one, as in "):
        module.get_config()
    with pytest.raises(InputError, match=f"no configuration '{near}0x': the nearest are .*{near}"):
        module.get_config(f"{near}0x")


def test_images_of_ones_own():
    config = image_folder.get_config()
    assert (config.optimizer, config.learning_rate, config.schedule) == ("muon", 0.02, "cosine")
    left_open = {name for name, value in config.model.items() if value is None}
    assert left_open == layers_for(config.image_size).keys() | {"temperature"}  # For the experiment to fill in.
    # As its description says, of crops.
    for size, cost in ((64, 0.17), (128, 0.22), (224, 0.64)):
        network = layers_for(size)
        model = CoDANet(**network | {"channels": (*network["channels"][:-1], 10)})
        assert forward_flops(model, 3 * size // 4, 32) / 32e9 == pytest.approx(cost, abs=0.01)


def test_hybrids_end_with_the_same_resolution_and_say_what_they_have():
    for blocks, parameters in enumerate((896 + 336_448, 5_568 + 336_448, 19_520 + 334_144, 75_072 + 334_144)):
        config = cifar10.get_config(f"Hybrid-{blocks}-SQ-100")
        model = make_model(config.model.to_dict())
        assert (model.head.temperature, model.trunk.blocks, config.batch_size) == (100.0, blocks, 64)
        variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 6)))
        assert sum(array.size for array in jax.tree.leaves(variables["params"])) == parameters
        _, linear_map = jax.eval_shape(
            lambda variables, model=model: model.apply(variables, jnp.zeros((1, 32, 32, 6)), method="decompose"),
            variables,
        )
        assert linear_map.layers[-1].input_shape == (8, 8, 10)


def test_the_penalty_of_a_name():
    config = cifar10.get_config("9L-S-CoDA-SQ-lambda-0.25")
    assert (config.penalty, config.model.temperature) == (0.25, 64.0)
    assert cifar10.get_config("9L-S-CoDA-SQ-1000").penalty == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("9L-S-CoDA-SQ-100O", "no configuration '9L-S-CoDA-SQ-100O': the nearest are 9L-S-CoDA-SQ-100"),
        ("xs", "the nearest are "),
        ("", "name one, as in cifar10.py:5L-XS-CoDA-SQ-100"),
        ("9L-S-CoDA-SQ-lambda-0.3", "the nearest are 9L-S-CoDA-SQ-lambda-0"),
    ],
)
def test_names_without_a_configuration(name, message):
    with pytest.raises(InputError, match=message):
        cifar10.get_config(name)
