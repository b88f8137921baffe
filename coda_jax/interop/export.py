"""A network and its explanations as one file, which JAX alone loads and runs on CPUs, GPUs and TPUs."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from coda_jax.data.description import DatasetInfo, check_info, info_entries
from coda_jax.errors import InputError
from coda_jax.errors.checks import check_whole
from coda_jax.errors.files import as_json, replace_files
from coda_jax.networks.encoding import add_inverse
from coda_jax.networks.variables import Network, check_variables, variable_shapes

PLATFORMS = ("cpu", "cuda", "tpu")


def export(
    model: Network,
    variables: Mapping[str, Any],
    path: str | os.PathLike,
    *,
    image_size: int,
    info: DatasetInfo | None = None,
) -> None:
    """Write the function from images to logits and contribution maps, with its parameters, to a file for `jax.export`.

    `jax.export.deserialize(Path(path).read_bytes()).call` takes any number N of images [N, H, W, 3], with
    H = W = `image_size`, float32 in [0, 1], which is not checked, and returns (logits [N, K], maps [N, K, H, W]): the
    maps of all classes, each of which sums to `logit - logit_bias`. Products are computed as exactly as for
    `coda_jax.contributions`. The `info` is written as JSON to `path` with ".json" appended.

    Variables of another network, images too small for it, an `info` of another number of classes or size of images, and
    a path that cannot be written raise InputError.
    """
    check_variables(model, variables)
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"path must be a path, not {path!r}")
    check_whole("image_size", image_size)
    if info is not None:
        check_info(info, model.channels[-1])
        if info.preprocessing.size != image_size:
            raise InputError(f"image_size is {image_size}, but info is of images of {info.preprocessing.size} pixels")
    # By way of NumPy: arrays that are spread over several devices would ask for as many wherever the file is used.
    collections = {path[0] for path in variable_shapes(model)}
    variables = jax.tree.map(jnp.asarray, jax.device_get({name: variables[name] for name in collections}))
    variables = model.with_gram(variables)

    def explain(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        with jax.default_matmul_precision("highest"):
            logits, linear_map = model.apply(variables, add_inverse(images), method="decompose")
            every_class = jnp.broadcast_to(jnp.arange(logits.shape[1]), logits.shape)
            return logits, jnp.sum(linear_map.contributions(every_class), axis=-1)

    def explain_one_by_one(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.tree.map(lambda result: result[:, 0], jax.lax.map(lambda image: explain(image[None]), images))

    def explain_anywhere(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        # The maps of many images leave a CPU's cache. In how many parts to take them is not known before their number.
        return jax.lax.platform_dependent(images, cpu=explain_one_by_one, default=explain)

    (examples,) = jax.export.symbolic_shape("N")
    images = jax.ShapeDtypeStruct((examples, image_size, image_size, 3), np.float32)
    exported = jax.export.export(jax.jit(explain_anywhere), platforms=PLATFORMS)(images)
    contents = {Path(path): bytes(exported.serialize())}
    if info is not None:
        contents[Path(f"{os.fspath(path)}.json")] = as_json(info_entries(info))
    replace_files(contents)
