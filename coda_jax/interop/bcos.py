"""B-cos residual networks that their authors' code trained (github.com/B-cos/B-cos-v2)."""

import os
import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from coda_jax.data.description import DatasetInfo
from coda_jax.data.preprocessing import Preprocessing
from coda_jax.errors import InputError, one_line
from coda_jax.errors.checks import as_array
from coda_jax.errors.extras import need
from coda_jax.interop.pretrained import Pretrained
from coda_jax.interop.torch import read_arrays
from coda_jax.networks.bcos_resnet import BcosResNet

RELEASE = "https://github.com/B-cos/B-cos-v2/releases/download/v0.0.1-weights"
PUBLISHED = {
    "bcos-resnet18": "resnet_18-68b4160fff.pth",
    "bcos-resnet34": "resnet_34-a63425a03e.pth",
    "bcos-resnet50": "resnet_50-ead259efe4.pth",
    "bcos-resnet101": "resnet_101-84c3658278.pth",
    "bcos-resnet152": "resnet_152-42051a77c1.pth",
    "bcos-resnet50-long": "resnet_50_long-ef38a88533.pth",
    "bcos-resnet152-long": "resnet_152_long-0b4b434939.pth",
}
"""The files of networks for ImageNet, by the names that `coda_jax.load_pretrained` takes. A file's name ends with the
first digits of its SHA-256."""


def load_checkpoint(
    path_or_mapping: str | os.PathLike | Mapping[str, Any],
    b: float = 2.0,
    temperature: float = 1.0,
    logit_bias: float | None = None,
) -> tuple[BcosResNet, dict[str, Any]]:
    """A PyTorch checkpoint as a network of ours, and its variables in the checkpoint's dtype.

    The checkpoint is a `.pth` file, for which PyTorch must be installed and of which no code is run; or a mapping from
    the checkpoint's names (`conv1.linear.weight`, ..., with or without the prefix `module.`) to arrays. The network
    follows from names and shapes, but for the arguments, which are as in `BcosResNet`. The published checkpoints are
    float32.

    A missing or unreadable file, and names or shapes that are not those of a B-cos ResNet with batch normalisation
    without mean and bias raise InputError. For a path where PyTorch is not installed it raises ModuleNotFoundError.
    """
    arrays = {
        str(name).removeprefix("module."): np.asarray(as_array(str(name), array))
        for name, array in read_arrays(path_or_mapping).items()
        if not str(name).endswith((".running_mean", ".num_batches_tracked"))  # They have no influence.
    }
    for name, rank in (("conv1.linear.weight", 4), ("bn1.weight", 1), ("fc.linear.weight", 4)):
        if name not in arrays or arrays[name].ndim != rank or not arrays[name].size:
            raise InputError(f"the checkpoint must have an array {name} of rank {rank}, as every B-cos ResNet has")
    stem, (width,) = arrays["conv1.linear.weight"].shape, arrays["bn1.weight"].shape
    maxout = max(1, stem[0] // width)
    blocks = {match.groups() for name in arrays if (match := re.match(r"layer(\d)\.(\d+)\.", name))}
    counts = Counter(stage for stage, _ in blocks)
    narrow = arrays.get("layer1.0.bn1.weight") if "layer1.0.bn3.weight" in arrays else None
    model = BcosResNet(
        blocks=[counts[stage] for stage in sorted(counts)],
        num_classes=len(arrays["fc.linear.weight"]) // maxout,
        width=width,
        bottleneck_width=None if narrow is None else narrow.size,
        small_images=stem[-1] == 3,
        b=b,
        maxout=maxout,
        temperature=temperature,
        logit_bias=logit_bias,
    )
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 6)))

    def take(path: tuple[jax.tree_util.DictKey, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        _, *layer, parameter = (entry.key for entry in path)
        conv = ".".join(layer).replace("_", ".")
        norm = conv.replace("conv", "bn")
        if layer[-1] == "downsample":
            conv, norm = f"{conv}.0", f"{conv}.1"
        theirs = {"kernel": f"{conv}.linear.weight", "norm": f"{norm}.weight", "variance": f"{norm}.running_var"}
        array = arrays.pop(theirs[parameter], np.zeros(0))
        shape = leaf.shape if parameter != "kernel" else tuple(leaf.shape[axis] for axis in (3, 2, 0, 1))
        if array.shape != shape:
            found = list(array.shape) if array.size else "missing"
            raise InputError(f"{theirs[parameter]} must be {list(shape)} for a {model.title}, but is {found}")
        return array if parameter != "kernel" else array.transpose(2, 3, 1, 0)

    variables = jax.tree_util.tree_map_with_path(take, shapes)
    if arrays:
        raise InputError(f"the checkpoint holds {min(arrays)!r}, which is no parameter of a {model.title}")
    return model, variables


def load_published(name: str) -> Pretrained:
    """A network that its authors trained on ImageNet, downloaded to the user's cache the first time.

    A name that is not in `PUBLISHED`, a failed download, and missing libraries raise InputError.
    """
    if name not in PUBLISHED:
        raise InputError(f"no B-cos network {name!r} is published: there are {', '.join(PUBLISHED)}")
    need("torch", "torch")
    need("train", "pooch", "tqdm")
    model, variables = load_checkpoint(_download(PUBLISHED[name]))
    lines = Path(__file__).with_name("imagenet_classes.txt").read_text().splitlines()
    class_names = tuple(line.partition(" ")[2] for line in lines if not line.startswith("#"))
    preprocessing = Preprocessing(size=224, shorter_side=232 if name.endswith("-long") else 256)
    return Pretrained(model, jax.tree.map(jnp.asarray, variables), DatasetInfo(class_names, preprocessing))


def _download(file: str) -> Path:
    """Where the file is in the user's cache, to which it is downloaded unless it is there."""
    import pooch  # Only downloads need it.

    url, directory, digits = f"{RELEASE}/{file}", pooch.os_cache("coda_jax"), file[-14:-4]
    if not (directory / file).exists():
        print(f"Downloading {url} to {directory}", file=sys.stderr)
    pooch.get_logger().setLevel("WARNING")  # It would say the same again.
    try:
        path = Path(pooch.retrieve(url, None, file, directory, progressbar=sys.stderr.isatty()))
    except OSError as error:  # Those of requests, too.
        raise InputError(f"cannot download {url} ({one_line(error)}): try again, or place it in {directory}") from error
    if not pooch.file_hash(path).startswith(digits):
        path.unlink()
        raise InputError(f"{url} came damaged: its SHA-256 does not begin with {digits}. Try again")
    return path
