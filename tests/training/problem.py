"""A data set and a network that train in a second, for the tests of this folder."""

import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from coda_jax import CoDANet
from coda_jax.data import Dataset, DatasetInfo, Preprocessing


def examples(count, seed):
    """Noisy images of two classes: bright above or bright below."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    images = rng.integers(0, 100, (count, 4, 4, 3))
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 2] += 100
    return [{"image": image.astype(np.uint8), "label": int(label)} for image, label in zip(images, labels, strict=True)]


DATASET = Dataset(examples(50, seed=0), examples(21, seed=1), DatasetInfo(("above", "below"), Preprocessing(4, 4)))
MODEL = CoDANet(channels=(6, 2), ranks=(4, 4), kernel_sizes=(3, 1), strides=(1, 1), paddings=(1, 0), temperature=4.0)
OPTIMIZER = optax.adam(1e-2)


class Normalised(nn.Module):
    """A conventional network with batch normalisation."""

    @nn.compact
    def __call__(self, inputs, train=False):
        features = nn.BatchNorm(use_running_average=not train, momentum=0.75)(nn.Conv(6, (3, 3))(inputs))
        return nn.Dense(2)(jnp.mean(nn.relu(features), axis=(1, 2)))


NORMALISED = Normalised()
