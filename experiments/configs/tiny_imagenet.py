"""CoDA-Nets on Tiny-ImageNet, whose archive is fetched by hand: docs/tutorials/imagenet.md says from where to where.

    python -m experiments.tiny_imagenet --config=experiments/configs/tiny_imagenet.py:NAME --workdir=DIR

    NAME                        what it is
    9L-M-CoDA-SQ-T              M-CoDA at temperature T: 100, 1000 or 10000
    5L-XS64-CoDA-SQ-T           for a CPU, at T: 10, 100 or 1000: the network of configs/image_folder.py

The authors published no network for this data: the networks and temperatures are ours. M-CoDA is between their S-CoDA
and L-CoDA, with the optimisation of L-CoDA (60 epochs in batches of 64, a warm-up of 15). The augmentation is the
paper's for CIFAR-10: images are mirrored, and cropped after padding by an eighth of their side, which is 8 pixels here.
The last of `model.channels` is 0, to have the archive's classes counted: 200 in the official one.

Cost: M-CoDA 6.4 GFLOP an image forward, XS64 0.22 (0.15 for 20 classes), and three times that a training step.
Expected result: docs/results.md says what has been run, and what it reached.
"""

import difflib

from ml_collections import ConfigDict, config_dict

from coda_jax.errors import InputError
from coda_jax.models import LOGIT_BIAS, M_CODA
from experiments.configs import image_folder

M_TEMPERATURES = {f"9L-M-CoDA-SQ-{t}": float(t) for t in (100, 1000, 10000)}
XS_TEMPERATURES = {f"5L-XS64-CoDA-SQ-{t}": float(t) for t in (10, 100, 1000)}


def get_config(name: str = "") -> ConfigDict:
    """The configuration of that name.

    Raises:
        InputError: there is none.
    """
    config = ConfigDict(
        {
            "dataset": "tiny_imagenet",
            "data_dir": config_dict.placeholder(str),  # None: TFDS's default directory.
            "image_size": config_dict.placeholder(int),  # That of the data.
            "model": {
                **M_CODA,
                "channels": (*M_CODA["channels"][:-1], 0),  # 0: counted, as many as there are classes.
                "norm": "sq",
                "temperature": 1000.0,
                "logit_bias": LOGIT_BIAS,
                "dtype": "float32",
            },
            "seed": 0,
            "batch_size": 64,
            "num_epochs": 60,
            "num_steps": config_dict.placeholder(int),  # None: all epochs.
            "optimizer": "adam",
            "weight_decay": 0.0,
            "learning_rate": 1e-3,  # The highest.
            "warmup_epochs": 15,  # In which it grows from warmup_from.
            "warmup_from": 2.5e-4,
            "schedule": "step",  # Or "cosine", without the next two.
            "decay": 2.0,  # The learning rate is divided by it every decay_epochs.
            "decay_epochs": 20,
            "flip": True,
            "crop_padding": 8,
            "randaugment": 0,  # The magnitude, from 1 to 10; 0: none.
            "num_workers": 0,
            "on_device": False,
            "accumulation": 1,
            "penalty": 0.0,  # λ of the regularisation of W(x).
            "log_every": 100,
            "checkpoint_every": 1000,
        }
    )
    if name in M_TEMPERATURES:
        config.model.temperature = M_TEMPERATURES[name]
    elif name in XS_TEMPERATURES:
        small = image_folder.get_config()
        config.model = small.model
        config.model.temperature = XS_TEMPERATURES[name]
        for key in (
            "batch_size",
            "num_epochs",
            "learning_rate",
            "warmup_epochs",
            "warmup_from",
            "decay",
            "decay_epochs",
        ):
            config[key] = small[key]
    elif not name:
        raise InputError(
            "tiny_imagenet.py holds several configurations: name one, as in tiny_imagenet.py:9L-M-CoDA-SQ-1000"
        )
    else:
        near = difflib.get_close_matches(name, (*M_TEMPERATURES, *XS_TEMPERATURES), n=3, cutoff=0)
        raise InputError(f"tiny_imagenet.py has no configuration {name!r}: the nearest are {', '.join(near)}")
    return config
