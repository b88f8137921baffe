import dataclasses
import hashlib
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy

from coda_jax import CoDANet, InputError, from_pretrained, load, load_pretrained, save_pretrained
from coda_jax.data import DatasetInfo, Preprocessing
from coda_jax.networks.bcos_resnet import BcosResNet
from coda_jax.networks.config_file import save_config
from coda_jax.training.checkpoints import Checkpoints
from coda_jax.training.state import TrainState
from tests.parameters import random_variables

MODEL = CoDANet((2, 3), (2, 4), (3, 1), (2, 1), (1, 0), "l2", 7.5, -0.1)
INFO = DatasetInfo(("cat", "Käfer\n", "cat"), Preprocessing(size=4, shorter_side=5, grey=True))
ATTRIBUTES = [field.name for field in dataclasses.fields(CoDANet) if field.name not in ("parent", "name")]


@pytest.fixture(scope="module")
def variables():
    return random_variables(MODEL)


@pytest.fixture
def saved(tmp_path, variables):
    """A directory of a good network."""
    save_pretrained(tmp_path / "network", MODEL, variables, INFO)
    return tmp_path / "network"


def bits(tree):
    return jax.tree.map(lambda array: (array.shape, array.dtype.name, np.asarray(array).tobytes()), tree)


def assert_same_model(model, other):
    for name in ATTRIBUTES:
        found, expected = getattr(model, name), getattr(other, name)
        if "dtype" in name:
            found, expected = jnp.dtype(found), jnp.dtype(expected)
        assert found == expected, name


@pytest.mark.parametrize("info", [INFO, None])
def test_everything_comes_back(tmp_path, variables, info):
    save_pretrained(str(tmp_path / "some" / "network"), MODEL, MODEL.with_gram(variables), info)
    found = from_pretrained(tmp_path / "some" / "network")
    assert_same_model(found.model, MODEL)
    assert bits(found.variables) == bits(variables)  # Without the collection "gram".
    assert found.info == info
    assert isinstance(found.variables["params"]["layers_0"]["A"], jax.Array)


@pytest.mark.parametrize("changes", [{}, {"bottleneck_width": 2, "b": 1.5, "maxout": 2, "dtype": "bfloat16"}], ids=str)
def test_b_cos_networks_come_back(tmp_path, changes):
    model = BcosResNet(**{"blocks": (1, 1), "num_classes": 3, "width": 4, "small_images": True} | changes)
    network = random_variables(model)
    save_pretrained(tmp_path, model, network, INFO)
    found = from_pretrained(tmp_path)
    assert found.model == model.clone(dtype=jnp.dtype(model.dtype).name) and found.info == INFO
    assert bits(found.variables) == bits(network)
    names = safetensors.numpy.load_file(tmp_path / "model.safetensors").keys()
    assert {"conv1.kernel", "layer1_0.conv2.norm", "batch_stats.layer2_0.downsample.variance"} <= names
    config = json.loads((tmp_path / "config.json").read_text())["model"]
    assert (config["architecture"], config["logit_bias"]) == ("bcos_resnet", -np.log(2))


def test_load_takes_published_directories_runs_and_names(saved, tmp_path, variables, monkeypatch):
    assert load(str(saved)).info == INFO
    run = tmp_path / "run"
    attributes = {name: getattr(MODEL, name) for name in ATTRIBUTES if "dtype" not in name}
    save_config(run, {"dataset": "digits", "model": attributes | {"forms": None, "unit": "full"}}, INFO)
    params = jax.tree.map(jnp.asarray, variables["params"])
    Checkpoints(run / "checkpoints").save(TrainState(jnp.int32(1), params, optax.EmptyState()))
    for found in (load(run), from_pretrained(run)):
        assert_same_model(found.model, MODEL)
        assert bits(found.variables) == bits(variables) and found.info == INFO
    monkeypatch.chdir(tmp_path)  # Where no directory has the name.
    assert load("digits").model.channels[-1] == 10
    with pytest.raises(InputError, match="there is no run in dgits, and no network 'dgits' comes with coda_jax"):
        load("dgits")


def test_arrays_that_do_not_lie_in_order(tmp_path, variables):
    """As those of `load_checkpoint`, which are transposed: safetensors does not look."""
    turned = jax.tree.map(np.asfortranarray, variables)
    assert not turned["params"]["layers_0"]["A"].flags.c_contiguous
    save_pretrained(tmp_path, MODEL, turned)
    assert bits(from_pretrained(tmp_path).variables) == bits(variables)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_other_dtypes(tmp_path, variables, dtype):
    model = MODEL.clone(dtype=dtype, param_dtype=jnp.dtype(dtype))
    with jax.enable_x64(True):
        cast = jax.tree.map(lambda array: jnp.asarray(array, dtype), variables)
        save_pretrained(tmp_path, model, cast)
        found = from_pretrained(tmp_path)
        assert_same_model(found.model, model)
        assert bits(found.variables) == bits(cast)
    if dtype == "float64":
        with pytest.raises(InputError, match="float64, which JAX computes with only where JAX_ENABLE_X64=1 is set"):
            from_pretrained(tmp_path)
        change_model(tmp_path, dtype="float32")
        with pytest.raises(InputError, match="float64, which JAX has only where JAX_ENABLE_X64=1 is set"):
            from_pretrained(tmp_path)


def test_rounded_to_float16(tmp_path, variables):
    rounded = jax.tree.map(lambda array: np.asarray(array, np.float16), variables)
    save_pretrained(tmp_path, MODEL, rounded)
    assert bits(from_pretrained(tmp_path).variables) == bits(jax.tree.map(np.float32, rounded))


def test_layout_of_the_files(saved):
    arrays = safetensors.numpy.load_file(saved / "model.safetensors")
    assert {name: array.shape for name, array in arrays.items()} == {
        "layers_0.A": (3, 3, 6, 2, 2),
        "layers_0.B": (3, 3, 6, 2),
        "layers_0.b": (3, 3, 6, 2),
        "layers_1.A": (1, 1, 2, 3, 4),
        "layers_1.B": (1, 1, 2, 4),
        "layers_1.b": (1, 1, 2, 3),
    }
    config = json.loads((saved / "config.json").read_text())
    assert config == {
        "model": {
            "architecture": "coda_net",
            "channels": [2, 3],
            "ranks": [2, 4],
            "kernel_sizes": [3, 1],
            "strides": [2, 1],
            "paddings": [1, 0],
            "norm": "l2",
            "temperature": 7.5,
            "logit_bias": -0.1,
            "dtype": "float32",
            "param_dtype": "float32",
        },
        "class_names": ["cat", "Käfer\n", "cat"],
        "preprocessing": {"size": 4, "shorter_side": 5, "grey": True},
        "weights_sha256": hashlib.sha256((saved / "model.safetensors").read_bytes()).hexdigest(),
    }
    assert sorted(os.listdir(saved)) == ["config.json", "model.safetensors"]


def test_failures_spoil_nothing(saved, variables, monkeypatch):
    (saved / "README.md").write_text("ours")
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def unchanged():
        return {path.name: path.read_bytes() for path in saved.iterdir()} == before

    with pytest.raises(InputError, match="params/layers_0/A of shape"):
        save_pretrained(saved, MODEL.clone(ranks=(3, 4)), variables)
    with pytest.raises(InputError, match="info has 3 class_names, but the network 2 classes"):
        save_pretrained(saved, *small_network(2), INFO)
    assert unchanged()

    written = []

    def fail_at_the_second(path, content):
        written.append(path.name)
        path.open("wb").write(content[:10])
        if len(written) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", fail_at_the_second)
    with pytest.raises(InputError, match="cannot write to .*network: No space left on device"):
        save_pretrained(saved, *small_network(2))
    assert len(written) == 2
    assert unchanged()
    monkeypatch.undo()

    save_pretrained(saved, *small_network(2))
    assert from_pretrained(saved).model.channels == (2,)
    assert (saved / "README.md").read_text() == "ours"


def small_network(classes):
    model = CoDANet((classes,), (1,), (1,), (1,), (0,))
    return model, random_variables(model)


def test_directory_that_cannot_be_written(tmp_path, variables):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to .*file: "):
        save_pretrained(tmp_path / "file", MODEL, variables)
    (tmp_path / "network" / "config.json").mkdir(parents=True)
    with pytest.raises(InputError, match="cannot write to .*config.json: it is a directory"):
        save_pretrained(tmp_path / "network", MODEL, variables)
    assert os.listdir(tmp_path / "network") == ["config.json"]
    with pytest.raises(InputError, match="directory must be a path, not 3"):
        save_pretrained(3, MODEL, variables)


def test_integers_are_no_parameters(tmp_path, variables):
    whole = jax.tree.map(lambda array: np.asarray(array, np.int32), variables)
    with pytest.raises(InputError, match="layers_0.A must be of float32, bfloat16, float64, float16, not int32"):
        save_pretrained(tmp_path / "network", MODEL, whole)
    assert not (tmp_path / "network").exists()


def test_missing_files(tmp_path, saved):
    with pytest.raises(InputError, match="there is no run in .*none: it has no config.json"):
        from_pretrained(tmp_path / "none")
    (saved / "model.safetensors").unlink()
    with pytest.raises(InputError, match="model.safetensors is missing"):
        from_pretrained(saved)


def change_config(directory, **changes):
    path = directory / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def change_model(directory, **changes):
    model = json.loads((directory / "config.json").read_text())["model"] | changes
    change_config(directory, model={key: value for key, value in model.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "vit"}, "config.json: architecture is 'vit', but must be one of coda_net, hybrid"),
        ({"hidden_size": 3}, "config.json: the configuration's model: .* unexpected keyword argument 'hidden_size'"),
        ({"ranks": None}, "config.json: the configuration's model: .* missing 1 required positional argument: 'ranks'"),
        ({"ranks": [2]}, "config.json: every list must have one value a layer"),
        ({"norm": "max"}, "config.json: norm is 'max', but must be one of sq, l2"),
        ({"channels": "23"}, "config.json: channels must be whole numbers"),
        ({"unit": "efficient"}, "config.json: unit is 'efficient', but only full units can be loaded now"),
        ({"channels": [2, 4]}, "config.json: info has 3 class_names, but the network 4 classes"),
        (
            {"ranks": [2, 5]},
            r"of another network than config.json: layers_1.A is \(1, 1, 2, 3, 4\), not \(1, 1, 2, 3, 5\)",
        ),
    ],
)
def test_bad_networks(saved, changes, message):
    change_model(saved, **changes)
    with pytest.raises(InputError, match=message):
        from_pretrained(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ["cat"]}, "config.json: info has 1 class_names, but the network 3 classes"),
        ({"class_names": ["cat", 2, "cow"]}, r"config.json is damaged \(class_names must be a list of names"),
        ({"class_names": None}, r"config.json is damaged \(class_names must be a list of names"),
        ({"preprocessing": {"size": 4}}, r"damaged \(preprocessing must have the entries size, shorter_side, grey"),
        ({"weights_sha256": 3}, "model.safetensors is damaged, or was not saved with config.json"),
        ({"weights_sha256": None}, "there is no checkpoint in .*network/checkpoints: train first"),
        (
            {"model": {"architecture": "resnet", "depth": 8, "num_classes": 3}},
            "model.safetensors must be of a CoDANet or BcosResNet, but config.json is of a ResNet",
        ),
    ],
)
def test_bad_configurations(saved, changes, message):
    change_config(saved, **changes)
    with pytest.raises(InputError, match=message):
        from_pretrained(saved)


def test_networks_of_former_versions(saved, variables):
    """Their configuration had the attributes of the network beside the other entries, and two forms of the classes."""
    config = json.loads((saved / "config.json").read_text())
    former = {"model_type": "coda_net", "architectures": ["CoDANet"], **config.pop("model")}
    del former["architecture"]
    classes = {"id2label": dict(zip("012", "abc", strict=True)), "label2id": dict(zip("abc", range(3), strict=True))}
    del config["class_names"]
    former |= {"unit": "full", "forms": ["dense", "factored"], **classes, **config}
    (saved / "config.json").write_text(json.dumps(former))
    for loaded in (load(saved), from_pretrained(saved)):
        assert loaded.model == MODEL.clone(dtype="float32", param_dtype="float32")
        assert loaded.info == INFO._replace(class_names=("a", "b", "c"))
        assert bits(loaded.variables) == bits(variables)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
def test_damaged_configurations(saved, content):
    (saved / "config.json").write_bytes(content)
    with pytest.raises(InputError, match="config.json is damaged"):
        from_pretrained(saved)


def test_other_arrays(saved):
    path = saved / "model.safetensors"
    good = safetensors.numpy.load_file(path)
    for arrays, message in (
        ({name: array for name, array in good.items() if name != "layers_1.b"}, "layers_1.b is missing, not"),
        (good | {"fc": good["layers_0.A"]}, r"fc is \(3, 3, 6, 2, 2\), not missing"),
        (good | {"layers_0.b": good["layers_0.b"].astype(np.int8)}, "layers_0.b must be of .*, not int8"),
    ):
        content = safetensors.numpy.save(arrays)
        path.write_bytes(content)
        change_config(saved, weights_sha256=hashlib.sha256(content).hexdigest())
        with pytest.raises(InputError, match=message):
            from_pretrained(saved)


@pytest.mark.parametrize("place", [0, 8, 40, -1])
def test_any_changed_byte_is_noticed(saved, place):
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="model.safetensors is (damaged|of another network)"):
        from_pretrained(saved)


def test_files_of_two_networks(saved, tmp_path, variables):
    """As after a program that was killed between the two renamings."""
    save_pretrained(tmp_path / "other", MODEL.clone(temperature=1.0), jax.tree.map(lambda array: 2 * array, variables))
    (tmp_path / "other" / "model.safetensors").replace(saved / "model.safetensors")
    with pytest.raises(InputError, match="model.safetensors is damaged, or was not saved with config.json"):
        from_pretrained(saved)


@pytest.mark.parametrize("name", ["dgits", "", "..", "digits/../digits", None])
def test_names_that_no_network_has(name):
    with pytest.raises(InputError, match=f"no network {name!r} comes with coda_jax: there are .*digits"):
        load_pretrained(name)


def test_truncated_file(saved):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="model.safetensors is damaged"):
        from_pretrained(saved)
