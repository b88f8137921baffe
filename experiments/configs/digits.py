"""A small CoDA-Net on scikit-learn's handwritten digits.

    python -m experiments.digits --workdir=DIR

Cost: about a minute on two CPU cores. Expected result: at least 97% test accuracy.
With `--config.on_device=True` the training images live on the devices, where they are shuffled and augmented.
"""

from ml_collections import ConfigDict

from coda_jax.networks.coda_net import LOGIT_BIAS
from experiments.configs.configuration import configuration


def get_config() -> ConfigDict:
    """The configuration."""
    return configuration(
        "digits",
        {
            "channels": (16, 32, 10),
            "ranks": (16, 16, 16),
            "kernel_sizes": (3, 3, 1),
            "strides": (1, 2, 1),
            "paddings": (1, 1, 0),
            "norm": "sq",
            "temperature": 10.0,
            "logit_bias": LOGIT_BIAS,
            "dtype": "float32",
        },
        batch_size=32,
        num_epochs=30,
        learning_rate=2e-3,
        decay_epochs=5,
        flip=False,
        crop_padding=1,
        checkpoint_every=500,
    )
