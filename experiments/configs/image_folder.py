"""A small CoDA-Net for images of one's own, which are in a folder with a subfolder for each class.

    python -m experiments.image_folder --config.data_dir=DIR --workdir=RUN

DIR has `train/CLASS/...` and `test/CLASS/...` or `val/CLASS/...`; or `CLASS/...` alone, and a fifth of every class is
held back to be tested on. docs/tutorials/own-data.md goes all the way. The last of `model.channels` is the number of
classes, or 0 to have it counted.

The network is ours, for images of 64 pixels on a CPU: 718,208 parameters for ten classes. Kernels of its layers with
stride 2 are of 4×4, so that every pixel but those at the border is seen by equally many patches.
Cost: 0.13 GFLOP an image forward and three times that a training step.
Expected result: the tutorial's four classes, 96% test accuracy; it says in what time.
"""

from ml_collections import ConfigDict, config_dict

from coda_jax.models import LOGIT_BIAS


def get_config() -> ConfigDict:
    """The configuration."""
    return ConfigDict(
        {
            "dataset": "image_folder",
            "data_dir": config_dict.placeholder(str),  # To be given: the folder.
            "image_size": 64,
            "model": {
                "channels": (16, 32, 32, 64, 0),  # 0: counted, as many as there are classes.
                "ranks": (8, 8, 16, 16, 32),
                "kernel_sizes": (4, 4, 4, 3, 1),
                "strides": (2, 2, 2, 1, 1),
                "paddings": (1, 1, 1, 1, 0),
                "norm": "sq",
                "temperature": 100.0,
                "logit_bias": LOGIT_BIAS,
                "dtype": "float32",
            },
            "seed": 0,
            "batch_size": 32,
            "num_epochs": 20,
            "num_steps": config_dict.placeholder(int),  # None: all epochs.
            "optimizer": "adam",
            "weight_decay": 0.0,
            "learning_rate": 2e-3,  # The highest.
            "warmup_epochs": 0,  # In which it grows from warmup_from.
            "warmup_from": 0.0,
            "schedule": "step",  # Or "cosine", without the next two.
            "decay": 1.5,  # The learning rate is divided by it every decay_epochs.
            "decay_epochs": 4,
            "flip": True,
            "crop_padding": 8,
            "randaugment": 0,  # The magnitude, from 1 to 10; 0: none.
            "num_workers": 0,
            "on_device": False,
            "accumulation": 1,
            "penalty": 0.0,  # λ of the regularisation of W(x).
            "log_every": 50,
            "checkpoint_every": 500,
        }
    )
