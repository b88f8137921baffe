"""Shuffling and augmentation on the device, for training images that fit in its memory.

The distribution is that of `loaders.train_batches`, in functions that JAX compiles into the training step, so that no
step waits for the host. The examples form one endless stream, epoch after epoch; what comes at a position is a function
of the random key and the position alone.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from coda_jax.errors import InputError

Examples = dict[str, Any]
"""{"image": uint8 [n, H, W, C], "label": int32 [n]}: all training examples, as NumPy's or JAX's arrays."""


def read(source: Sequence[dict[str, Any]]) -> Examples:
    """All examples of a source, random access to {"image": uint8 [H, W, C], "label": int}, as NumPy arrays.

    Raises InputError if the images have differing sizes, or need more memory than a device has, where it tells.
    """
    needed = len(source) * source[0]["image"].nbytes
    memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", math.inf)
    if needed > memory:
        raise InputError(
            f"on_device needs {needed / 1e9:.3g} GB for the images, but a device has {memory / 1e9:.3g} GB: "
            "use on_device=False"
        )
    images, labels = [], []
    for i in range(len(source)):
        example = source[i]
        images.append(example["image"])
        labels.append(example["label"])
        if images[-1].shape != images[0].shape:
            first, other = ("×".join(map(str, image.shape)) for image in (images[0], images[-1]))
            raise InputError(
                f"on_device needs images of one size, but some are {first} and some {other}: use on_device=False"
            )
    return {"image": np.stack(images), "label": np.array(labels, np.int32)}


def epoch_orders(key: jax.Array, first: jax.Array, *, num_epochs: int, num_examples: int) -> jax.Array:
    """The permutations of n examples in e consecutive epochs, from the number `first`, int32 [], on: int32 [e, n]."""
    keys = _keys_at(key, first + jnp.arange(num_epochs))
    return jax.vmap(lambda epoch_key: jax.random.permutation(epoch_key, num_examples))(keys)


def augmented_batch(
    examples: Examples, indices: jax.Array, key: jax.Array, positions: jax.Array, *, flip: bool, crop_padding: int
) -> dict[str, jax.Array]:
    """A batch of augmented examples: "image" float32 [N, H, W, C] in [0, 1] and "label" int32 [N].

    `indices`, int32 [N], says which they are, and `positions`, int32 [N], where in the stream. Flips and crops follow
    from the key and the positions; `flip` and `crop_padding` are those of `loaders.train_batches`.
    """
    change = jax.vmap(partial(random_flip_and_crop, flip=flip, padding=crop_padding))
    images = change(_keys_at(key, positions), examples["image"][indices])
    return {"image": images.astype(jnp.float32) / 255, "label": examples["label"][indices]}


def random_flip_and_crop(key: jax.Array, image: jax.Array, *, flip: bool, padding: int) -> jax.Array:
    """What `augmentation.RandomFlipAndCrop` does: [H, W, C] -> [H, W, C] of the same dtype."""
    flip_key, crop_key = jax.random.split(key)
    if flip:
        image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
    top, left = jax.random.randint(crop_key, (2,), 0, 2 * padding + 1)
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    return lax.dynamic_slice(padded, (top, left, 0), image.shape)


def _keys_at(key: jax.Array, numbers: jax.Array) -> jax.Array:
    return jax.vmap(partial(jax.random.fold_in, key))(numbers)
