import hashlib
import http.server
import os
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coda_jax import InputError, load, load_pretrained
from coda_jax.contributions import explain, linear_weights
from coda_jax.interop import bcos
from coda_jax.interop.bcos import load_checkpoint
from coda_jax.networks.bcos_resnet import BcosResNet
from tests.golden import DTYPES, TOLERANCE, assert_close, golden_inputs

GOLDEN = ("bcos_bottleneck_one_image", "bcos_cifar10_resnet20", "bcos_resnet_basic", "bcos_resnet_bottleneck")


def checkpoint(changes=(), width=2, classes=3, size=3, maxout=1, narrow=None):
    """The mapping of a network of two stages, with one block and with two; and the changes."""
    rng, arrays = np.random.default_rng(0), {}

    def add(conv, norm, shape):
        arrays[f"{conv}.linear.weight"] = rng.normal(size=(shape[0] * maxout, *shape[1:])).astype(np.float32)
        if norm:
            arrays[f"{norm}.weight"], arrays[f"{norm}.running_mean"] = rng.random((2, shape[0]), np.float32)
            arrays[f"{norm}.running_var"] = rng.random(shape[0], np.float32)
            arrays[f"{norm}.num_batches_tracked"] = np.array(7)

    add("conv1", "bn1", (width, 6, size, size))
    channels = width
    for stage, place in ((1, 0), (2, 0), (2, 1)):
        block, before = f"layer{stage}.{place}", channels
        sizes = [(stage * width, 3), (stage * width, 3)] if narrow is None else []
        sizes = sizes or [(stage * narrow, 1), (stage * narrow, 3), (stage * 4 * width, 1)]
        for layer, (features, kernel) in enumerate(sizes, 1):
            add(f"{block}.conv{layer}", f"{block}.bn{layer}", (features, channels, kernel, kernel))
            channels = features
        if channels != before:
            add(f"{block}.downsample.0", f"{block}.downsample.1", (channels, before, 1, 1))
    add("fc", None, (classes, channels, 1, 1))
    return {name: array for name, array in (arrays | dict(changes)).items() if array is not None}


def test_layout_by_hand():
    arrays = checkpoint(maxout=2)
    model, variables = load_checkpoint(arrays, temperature=0.5, b=1.5)
    assert model == BcosResNet((1, 2), 3, width=2, small_images=True, b=1.5, maxout=2, temperature=0.5)
    params, statistics = variables["params"], variables["batch_stats"]
    # Row 1, column 0 of a patch; inputs first, then outputs.
    np.testing.assert_array_equal(params["conv1"]["kernel"][1, 0], arrays["conv1.linear.weight"][:, :, 1, 0].T)
    np.testing.assert_array_equal(statistics["conv1"]["variance"], arrays["bn1.running_var"])
    of_block = params["layer2_1"]
    np.testing.assert_array_equal(of_block["conv1"]["norm"], arrays["layer2.1.bn1.weight"])
    assert sorted(of_block) == ["conv1", "conv2"] and sorted(params["fc"]) == ["kernel"]
    shortcut = params["layer2_0"]["downsample"]
    np.testing.assert_array_equal(shortcut["kernel"][0, 0], arrays["layer2.0.downsample.0.linear.weight"][:, :, 0, 0].T)
    np.testing.assert_array_equal(shortcut["norm"], arrays["layer2.0.downsample.1.weight"])


def test_architectures_follow_from_shapes():
    assert load_checkpoint(checkpoint(size=7))[0] == BcosResNet((1, 2), 3, width=2)
    assert load_checkpoint(checkpoint(narrow=5), logit_bias=-1.0)[0] == BcosResNet(
        (1, 2), 3, width=2, bottleneck_width=5, small_images=True, logit_bias=-1.0
    )


def test_prefix_is_dropped_and_any_network_can_be_applied():
    model, plain = load_checkpoint(checkpoint(narrow=1, size=7))
    _, prefixed = load_checkpoint({f"module.{name}": array for name, array in checkpoint(narrow=1, size=7).items()})
    jax.tree.map(np.testing.assert_array_equal, plain, prefixed)
    assert jax.eval_shape(model.apply, plain, jnp.zeros((2, 9, 9, 6))).shape == (2, 3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", GOLDEN)
def test_logits_contributions_and_weights_are_the_authors(golden, name, dtype):
    arrays = golden(name)
    state = {key.removeprefix("state_dict/"): array for key, array in arrays.items() if key.startswith("state_dict/")}
    with jax.enable_x64(dtype == jnp.float64):
        config = arrays["config"]
        model, variables = load_checkpoint(state, config.get("b", 2.0), config.get("temperature", 1.0))
        assert (model.num_classes, model.logit_bias) == (config["num_classes"], config["logit_bias"])
        model, variables = model.clone(dtype=dtype), jax.tree.map(lambda array: jnp.asarray(array, dtype), variables)
        inputs = golden_inputs(arrays, dtype)
        targets = np.tile(arrays["targets"], (len(inputs), 1))
        logits, _, contributions = explain(model, variables, inputs, targets)
        assert (logits.dtype, contributions.dtype) == (dtype, dtype)
        assert_close(contributions, arrays["contributions"].transpose(0, 1, 3, 4, 2), TOLERANCE[dtype])
        rows = linear_weights(model, variables, inputs, targets)
        assert_close(rows, arrays["linear_weights"].transpose(0, 1, 3, 4, 2), TOLERANCE[dtype])
        logits, sums = np.asarray(logits), np.asarray(contributions).sum((2, 3, 4))
    # Positive and negative contributions nearly cancel, and are small beside the bias, off which float32 rounds them.
    without_bias, scale = arrays["logits"] - model.logit_bias, np.abs(arrays["contributions"]).sum((2, 3, 4)).max()
    close = {"rtol": 0, "atol": TOLERANCE[dtype] * scale}
    np.testing.assert_allclose(sums, np.take_along_axis(without_bias, targets, axis=1), **close)
    rounding = 4 * np.finfo(dtype).eps * abs(model.logit_bias)
    np.testing.assert_allclose(logits - model.logit_bias, without_bias, rtol=0, atol=close["atol"] + rounding)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv1.linear.weight": None}, "must have an array conv1.linear.weight of rank 4, as every B-cos ResNet"),
        ({"fc.linear.weight": np.zeros((3, 4))}, "must have an array fc.linear.weight of rank 4"),
        ({"bn1.weight": np.zeros(0)}, "must have an array bn1.weight of rank 1"),
        ({"bn1.bias": np.zeros(2)}, "holds 'bn1.bias', which is no parameter of a B-cos ResNet-8"),
        (
            {"layer4.0.bn1.weight": np.zeros(2)},
            r"layer3.0.bn1.running_var must be \[8\] for a B-cos ResNet-10, but is missing",
        ),
        ({"layer2.1.conv2.linear.weight": None}, r"layer2.1.conv2.linear.weight must be \[4, 4, 3, 3\] for"),
        (
            {"layer2.0.bn2.running_var": np.zeros(3)},
            r"layer2.0.bn2.running_var must be \[4\] for .*, but is \[3\]",
        ),
        ({"layer1.0.bn3.weight": np.zeros(2), "layer1.0.bn1.weight": None}, "layer1.0.bn1.weight must be"),
        ({"fc.linear.weight": np.zeros((1, 4, 1, 1))}, "num_classes must be at least 2, not 1"),
        ({"bn1.weight": "two"}, "bn1.weight must be an array of real numbers"),
        ({7: np.zeros(2)}, "holds '7', which is no parameter"),
    ],
)
def test_bad_mappings(changes, message):
    with pytest.raises(InputError, match=message):
        load_checkpoint(checkpoint(changes))


def test_mappings_without_blocks_and_paths():
    with pytest.raises(InputError, match="blocks must be whole numbers of at least 1, one a stage"):
        load_checkpoint({name: array for name, array in checkpoint().items() if not name.startswith("layer")})
    with pytest.raises(InputError, match="path_or_mapping must be a path or a mapping of names to arrays, not None"):
        load_checkpoint(None)


def test_a_file_holds_the_same_as_the_mapping(tmp_path):
    torch = pytest.importorskip("torch", reason="reading a .pth needs PyTorch")
    arrays = checkpoint(narrow=2)
    torch.save({name: torch.tensor(array) for name, array in arrays.items()}, tmp_path / "network.pth")
    model, variables = load_checkpoint(tmp_path / "network.pth")
    expected_model, expected = load_checkpoint(arrays)
    assert model == expected_model
    jax.tree.map(np.testing.assert_array_equal, variables, expected)


@pytest.fixture
def release(tmp_path, monkeypatch):
    """What a server of files holds in the place of the published ones, and the requests to it."""
    content, requests = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            requests.append(self.path)
            self.send_response(200 if self.path in content else 404)
            self.send_header("Content-Length", str(len(content.get(self.path, b""))))
            self.end_headers()
            self.wfile.write(content.get(self.path, b""))

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(bcos, "RELEASE", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield content, requests
    server.shutdown()
    server.server_close()


def publish(monkeypatch, content, data, name="bcos-resnet18"):
    file = f"resnet_18-{hashlib.sha256(data).hexdigest()[:10]}.pth"
    monkeypatch.setitem(bcos.PUBLISHED, name, file)
    content[f"/{file}"] = data
    return file


@pytest.mark.parametrize(("name", "side"), [("bcos-resnet18", 256), ("bcos-resnet50-long", 232)])
def test_a_published_network_is_downloaded_once(release, monkeypatch, tmp_path, capsys, name, side):
    torch = pytest.importorskip("torch", reason="reading a .pth needs PyTorch")
    content, requests = release
    arrays = checkpoint(classes=1000, size=7)
    torch.save({name: torch.tensor(array) for name, array in arrays.items()}, tmp_path / "network.pth")
    file = publish(monkeypatch, content, (tmp_path / "network.pth").read_bytes(), name)
    for loads in (load_pretrained, load):
        model, variables, info = loads(name)
    assert requests == [f"/{file}"]
    assert capsys.readouterr().err.startswith(f"Downloading {bcos.RELEASE}/{file} to {tmp_path / 'cache'}")
    assert model == BcosResNet((1, 2), 1000, width=2)
    jax.tree.map(np.testing.assert_array_equal, variables, load_checkpoint(arrays)[1])
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(variables))
    assert info.preprocessing == (224, side, False) and len(set(info.class_names)) == 1000
    assert [info.class_names[label] for label in (0, 207, 999)] == ["tench", "golden retriever", "toilet tissue"]


def test_a_damaged_file_in_the_cache_is_removed(release, monkeypatch):
    content, requests = release
    file = publish(monkeypatch, content, b"a network")
    path = bcos._download(file)
    assert path.read_bytes() == b"a network"
    path.write_bytes(b"half of ")
    with pytest.raises(InputError, match=f"{file} came damaged: its SHA-256 does not begin with .*. Try again"):
        bcos._download(file)
    assert bcos._download(file).read_bytes() == b"a network"
    assert len(requests) == 2 and [entry.name for entry in path.parent.iterdir()] == [file]


def test_what_cannot_be_downloaded(release, monkeypatch):
    content, requests = release
    file = publish(monkeypatch, content, b"a network")
    content[f"/{file}"] = b"another file"
    for _ in range(2):
        with pytest.raises(InputError, match=f"{file} came damaged"):
            bcos._download(file)
    assert len(requests) == 2
    del content[f"/{file}"]
    with pytest.raises(InputError, match=f"cannot download .*/{file} .*404.*: try again, or place it in .*coda_jax"):
        bcos._download(file)
    assert not [name for _, _, names in os.walk(os.environ["XDG_CACHE_HOME"]) for name in names]


def test_published_names(monkeypatch):
    with pytest.raises(
        InputError, match="no B-cos network 'bcos-resnet7' is published: there are bcos-resnet18, bcos-"
    ):
        load_pretrained("bcos-resnet7")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else sys)
    with pytest.raises(InputError, match=r"needs torch for this: pip install 'coda_jax\[torch\]'"):
        load_pretrained("bcos-resnet50")
