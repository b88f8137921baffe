import importlib.util
import io
import os
import pickle
import sys
import tarfile
import tempfile
import zipfile
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coda_jax import CoDANet, InputError
from coda_jax.interop.torch import load_checkpoint, save_checkpoint, to_state_dict
from tests.golden import GOLDEN, SHARED
from tests.parameters import random_variables

FILES = ("model_epoch_200", "last_model_epoch_7")  # The formats that the authors' code has written, old and new.


def checkpoint(**changes):
    """The mapping of a network of one layer: 2 units, rank 3, kernel 2, 1 channel; and the changes."""
    arrays = {
        "0.weight_mod.weighting_f.0.weight": np.arange(12.0).reshape(3, 1, 2, 2),
        "0.weight_mod.weighting_f.1.weight": np.arange(24.0).reshape(8, 3, 1, 1),
        "0.weight_mod.weighting_f.1.bias": np.arange(8.0),
    }
    return {name: array for name, array in (arrays | changes).items() if array is not None}


FIRST, SECOND, BIAS = checkpoint()


def test_layout_by_hand():
    model, variables = load_checkpoint(checkpoint(), [2], [1], temperature=7.0, logit_bias=-1.0)
    assert (model.channels, model.ranks, model.kernel_sizes, model.strides, model.paddings) == (
        (2,),
        (3,),
        (2,),
        (2,),
        (1,),
    )
    assert (model.norm, model.temperature, model.logit_bias) == ("sq", 7.0, -1.0)
    layer = variables["params"]["layers_0"]
    # Row 1, column 0 of the patch is value 2 of 4; its weights for unit 1 are output 2·2 + 1 of the second convolution.
    np.testing.assert_array_equal(layer["B"][1, 0, 0], [2, 6, 10])
    np.testing.assert_array_equal(layer["A"][1, 0, 0, 1], [15, 16, 17])
    assert layer["b"][1, 0, 0, 1] == 5


def test_prefix_is_dropped():
    _, plain = load_checkpoint(checkpoint(), [1], [0])
    _, prefixed = load_checkpoint({f"module.{name}": array for name, array in checkpoint().items()}, [1], [0])
    jax.tree.map(np.testing.assert_array_equal, plain, prefixed)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", ["sq_3layer", "l2_3layer"])
def test_files_hold_the_same_as_the_mapping(golden, name, file):
    pytest.importorskip("torch", reason="reading a .pkl needs PyTorch")
    arrays = golden(name)
    mapping = {key.removeprefix("state_dict/"): value for key, value in arrays.items() if "state_dict" in key}
    geometry = arrays["config"]["strides"], arrays["config"]["paddings"]
    _, from_file = load_checkpoint(SHARED / "golden" / f"{name}.{file}.pkl", *geometry)
    _, from_mapping = load_checkpoint(mapping, *geometry)
    jax.tree.map(np.testing.assert_array_equal, from_file, from_mapping)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_networks_go_back_to_the_bit(golden, name):
    arrays = golden(name)
    mapping = {key.removeprefix("state_dict/"): value for key, value in arrays.items() if "state_dict" in key}
    back = to_state_dict(*load_checkpoint(mapping, arrays["config"]["strides"], arrays["config"]["paddings"]))
    assert_same_arrays(back, mapping)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", ["sq_3layer", "l2_3layer"])
def test_golden_files_go_back_to_the_bit(golden, name, file, tmp_path):
    torch = pytest.importorskip("torch", reason="a .pkl needs PyTorch")
    config, path = golden(name)["config"], SHARED / "golden" / f"{name}.{file}.pkl"
    save_checkpoint(tmp_path / "back.pkl", *load_checkpoint(path, config["strides"], config["paddings"]))
    back, original = torch.load(tmp_path / "back.pkl", weights_only=True), torch.load(path, weights_only=True)
    assert {type(value) for value in back.values()} == {torch.Tensor}
    assert_same_arrays(back, {name.removeprefix("module."): value for name, value in original.items()})


def assert_same_arrays(found, wanted):
    """The same names in the same order, shapes, dtypes and bits."""
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape), name
        assert np.asarray(found[name]).tobytes() == np.asarray(value).tobytes(), name


LAYERS = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=3)


@settings(max_examples=30, deadline=None, database=None, derandomize=True)
@given(layers=LAYERS, dtype=st.sampled_from([np.float32, np.float64]), seed=st.integers(0, 100))
def test_any_network_goes_there_and_back(layers, dtype, seed):
    channels, ranks, kernel_sizes = zip(*layers, strict=True)
    model = CoDANet(channels, ranks, kernel_sizes, (2,) * len(layers), (1,) * len(layers), "l2", 3.0, -1.0)
    variables = random_variables(model, dtype, seed)
    arrays = to_state_dict(model, variables)
    assert all(array.flags.c_contiguous for array in arrays.values())
    other, back = load_checkpoint(arrays, model.strides, model.paddings, "l2", 3.0, -1.0)
    assert other == model
    jax.tree.map(partial(np.testing.assert_array_equal, strict=True), back, variables)
    assert_same_arrays(to_state_dict(other, back), arrays)
    if importlib.util.find_spec("torch"):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "network.pkl")
            save_checkpoint(path, model, jax.tree.map(jnp.asarray, variables) if dtype == np.float32 else variables)
            _, read = load_checkpoint(path, model.strides, model.paddings)
            assert os.listdir(directory) == ["network.pkl"]
        jax.tree.map(partial(np.testing.assert_array_equal, strict=True), read, variables)


def test_what_cannot_be_saved(tmp_path, monkeypatch):
    model = CoDANet((2,), (1,), (1,), (1,), (0,))
    variables = {"params": {"layers_0": {"A": np.ones((1, 1, 6, 2, 1)), "B": np.ones((1, 1, 6, 1))}}}
    with pytest.raises(InputError, match=r"variables must have params/layers_0/b of shape \(1, 1, 6, 2\), not None"):
        to_state_dict(model, variables)
    variables["params"]["layers_0"]["b"] = np.ones((1, 1, 6, 2))
    half = jax.tree.map(lambda array: jnp.asarray(array, jnp.bfloat16), variables)
    with pytest.raises(InputError, match="must be float32 or float64 in a checkpoint, but 0.weight_.* is bfloat16"):
        save_checkpoint(tmp_path / "network.pkl", model, half)
    with pytest.raises(InputError, match="path must be a path, not None"):
        save_checkpoint(None, model, variables)
    if importlib.util.find_spec("torch"):
        with pytest.raises(InputError, match="cannot write to .*: it is a directory"):
            save_checkpoint(tmp_path, model, variables)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModuleNotFoundError, match="writing .*network.pkl needs PyTorch: install torch"):
        save_checkpoint(tmp_path / "network.pkl", model, variables)
    assert os.listdir(tmp_path) == []


def test_bad_files(tmp_path):
    torch = pytest.importorskip("torch", reason="reading a .pkl needs PyTorch")
    with pytest.raises(InputError, match="there is no checkpoint at .*missing.pkl"):
        load_checkpoint(tmp_path / "missing.pkl", [1], [0])
    (tmp_path / "text.pkl").write_text("hello")
    with pytest.raises(InputError, match="text.pkl is not a readable PyTorch checkpoint"):
        load_checkpoint(tmp_path / "text.pkl", [1], [0])
    torch.save([1], tmp_path / "list.pkl")
    with pytest.raises(InputError, match="holds a list, not a mapping"):
        load_checkpoint(tmp_path / "list.pkl", [1], [0])


class Harmful:
    """Its pickle would make a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def save_zip(torch, value, path):
    torch.save(value, path)


def save_old(torch, value, path):
    torch.save(value, path, _use_new_zipfile_serialization=False)


def save_bare_pickle(torch, value, path):
    path.write_bytes(pickle.dumps(value, protocol=2))


def save_oldest(torch, value, path):
    """As PyTorch did before 0.1.10: a tar, which it unpacks."""
    content = pickle.dumps(value, protocol=2)
    with tarfile.open(path, "w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors", "../made"):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("save", [save_zip, save_old, save_bare_pickle, save_oldest])
def test_code_in_a_file_is_not_run(tmp_path, save):
    torch = pytest.importorskip("torch", reason="reading a .pkl needs PyTorch")
    file = tmp_path / "harmful.pkl"
    save(torch, {"0.weight_mod.weighting_f.0.weight": Harmful(tmp_path / "made")}, file)
    with pytest.raises(InputError, match="not a readable PyTorch checkpoint") as caught:
        load_checkpoint(file, [1], [0])
    assert str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == [file]


def test_the_harmful_pickle_would_do_harm(tmp_path):
    pickle.loads(pickle.dumps(Harmful(tmp_path / "made"))).close()
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize("save", [save_zip, save_old])
def test_arrays_larger_than_their_file(tmp_path, save):
    torch = pytest.importorskip("torch", reason="reading a .pkl needs PyTorch")
    count, value = 4 * 10**11, torch.zeros(1)
    views = {FIRST: value.expand(3, 1, 2, 2), SECOND: value.expand(count, 3, 1, 1), BIAS: value.expand(count)}
    save(torch, views, tmp_path / "views.pkl")
    with pytest.raises(InputError, match="bytes claim to hold 6400000000048 bytes of arrays"):
        load_checkpoint(tmp_path / "views.pkl", [1], [0])


def test_compressed_checkpoint(tmp_path):
    torch = pytest.importorskip("torch", reason="reading a .pkl needs PyTorch")
    zeros = checkpoint(**{SECOND: np.zeros((10**6, 3, 1, 1)), BIAS: np.zeros(10**6)})
    torch.save({name: torch.from_numpy(array) for name, array in zeros.items()}, tmp_path / "plain.pkl")
    with zipfile.ZipFile(tmp_path / "plain.pkl") as plain:
        with zipfile.ZipFile(tmp_path / "bomb.pkl", "w", zipfile.ZIP_DEFLATED) as bomb:
            for name in plain.namelist():
                bomb.writestr(name, plain.read(name))
    load_checkpoint(tmp_path / "plain.pkl", [1], [0])
    with pytest.raises(InputError, match=r"bomb.pkl is not .*: its \d{5} bytes unpack to 3200\d{4}"):
        load_checkpoint(tmp_path / "bomb.pkl", [1], [0])


@pytest.mark.parametrize(("name", "value"), [("fc", [1.0]), (7, "tensor")])
def test_other_things_than_arrays(tmp_path, name, value):
    torch = pytest.importorskip("torch", reason="reading a .pkl needs PyTorch")
    torch.save({name: torch.zeros(1) if value == "tensor" else value}, tmp_path / "other.pkl")
    with pytest.raises(InputError, match=f"other.pkl holds a (list|Tensor) as {name!r}, not only arrays by name"):
        load_checkpoint(tmp_path / "other.pkl", [1], [0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fc.weight": np.zeros(3)}, "holds 'fc.weight', which is no parameter of a CoDA-Net"),
        ({BIAS: None}, "layer 0 of the checkpoint lacks 1.bias"),
        (
            {name.replace("0.", "2.", 1): array for name, array in checkpoint().items()},
            r"without gaps, but are \[0, 2\]",
        ),
        ({FIRST: np.zeros((3, 1, 2, 3))}, r"0.weight must be \[rank, channels, k, k\], not \[3, 1, 2, 3\]"),
        ({FIRST: np.zeros((3, 5, 2, 2))}, "n a multiple of 20"),
        ({SECOND: np.zeros((8, 2, 1, 1))}, r"1.weight \[8, 2, 1, 1\] and 1.bias \[8\] must be \[n, 3, 1, 1\]"),
    ],
)
def test_bad_mappings(changes, message):
    with pytest.raises(InputError, match=message):
        load_checkpoint(checkpoint(**changes), [1], [0])


def test_empty_mapping_and_wrong_geometry():
    with pytest.raises(InputError, match="without gaps"):
        load_checkpoint({}, [], [])
    with pytest.raises(InputError, match="channels 1, ranks 1, kernel_sizes 1, strides 2, paddings 1"):
        load_checkpoint(checkpoint(), [1, 1], [0])


def test_without_pytorch(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "some.pkl").write_bytes(b"")
    with pytest.raises(ModuleNotFoundError, match="reading .*some.pkl needs PyTorch: install torch, or give a mapping"):
        load_checkpoint(tmp_path / "some.pkl", [1], [0])
    with pytest.raises(InputError, match="there is no checkpoint at .*missing.pkl"):
        load_checkpoint(tmp_path / "missing.pkl", [1], [0])
