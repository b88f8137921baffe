"""A small CoDA-Net on scikit-learn's handwritten digits.

    python -m experiments.digits --workdir=DIR

Cost: about a minute on two CPU cores. Expected result: at least 97% test accuracy.
With `--config.on_device=True` the training images live on the devices, where they are shuffled and augmented.
"""

from ml_collections import ConfigDict, config_dict

from coda_jax.models import LOGIT_BIAS


def get_config() -> ConfigDict:
    """The configuration."""
    return ConfigDict(
        {
            "dataset": "digits",
            "data_dir": config_dict.placeholder(str),  # Not needed.
            "image_size": config_dict.placeholder(int),  # That of the data.
            "model": {
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
            "seed": 0,
            "batch_size": 32,
            "num_epochs": 30,
            "num_steps": config_dict.placeholder(int),  # None: all epochs.
            "optimizer": "adam",
            "weight_decay": 0.0,
            "learning_rate": 2e-3,  # The highest.
            "warmup_epochs": 0,  # In which it grows from warmup_from.
            "warmup_from": 0.0,
            "schedule": "step",  # Or "cosine", without the next two.
            "decay": 1.5,  # The learning rate is divided by it every decay_epochs.
            "decay_epochs": 5,
            "flip": False,
            "crop_padding": 1,
            "randaugment": 0,  # The magnitude, from 1 to 10; 0: none.
            "num_workers": 0,
            "on_device": False,
            "accumulation": 1,
            "penalty": 0.0,  # λ of the regularisation of W(x).
            "log_every": 100,
            "checkpoint_every": 500,
        }
    )
