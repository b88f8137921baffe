"""CoDA-Nets on ImageNet, whose archives are fetched by hand: docs/tutorials/imagenet.md says from where to where.

    python -m experiments.imagenet --config=experiments/configs/imagenet.py:NAME --workdir=DIR

    NAME                        what it is
    9L-L-CoDA-SQ-100000         the authors' L-CoDA, T = 100000, on the first 100 classes
    9L-L1000-CoDA-SQ-100000     ours, on all 1,000 classes: L-CoDA with S-CoDA's last layer (1×1, of rank 64)

60 epochs in batches of 64; the learning rate grows from 2.5e-4 to 1e-3 in 15 epochs, and is then 1e-3 / 2^⌊epoch / 20⌋.
Images, whose shorter side is 256 pixels, are cropped at random to 240, mirrored, and changed by two operations of
RandAugment of magnitude 10; tests are on the central 240. With L-CoDA's own last layer 1,000 classes would need 148
million parameters in it, and 256,000 values at each of its 400 positions.

Cost: 108 GFLOP an image forward (94 for 1,000 classes), and three times that a training step: for several accelerators.
Where a batch does not fit in their memory, `--config.accumulation=N` computes it in N parts.
`--config.num_workers=N` prepares images in N processes; docs/performance.md says how many a core prepares.
Expected result: docs/results.md says what has been run, and what it reached.
"""

import difflib

from ml_collections import ConfigDict, config_dict

from coda_jax.errors import InputError
from coda_jax.models import L_CODA, LOGIT_BIAS, S_CODA

# The data set and the network of each name.
NAMES = {
    "9L-L-CoDA-SQ-100000": ("imagenet100", L_CODA),
    "9L-L1000-CoDA-SQ-100000": (
        "imagenet",
        {key: (*L_CODA[key][:-1], S_CODA[key][-1]) for key in L_CODA} | {"channels": (*L_CODA["channels"][:-1], 1000)},
    ),
}


def get_config(name: str = "") -> ConfigDict:
    """The configuration of that name.

    Raises:
        InputError: there is none.
    """
    if not name:
        raise InputError("imagenet.py holds several configurations: name one, as in imagenet.py:9L-L-CoDA-SQ-100000")
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=3, cutoff=0)
        raise InputError(f"imagenet.py has no configuration {name!r}: the nearest are {', '.join(near)}")
    dataset, network = NAMES[name]
    return ConfigDict(
        {
            "dataset": dataset,
            "data_dir": config_dict.placeholder(str),  # None: TFDS's default directory.
            "image_size": config_dict.placeholder(int),  # 240.
            "model": {**network, "norm": "sq", "temperature": 1e5, "logit_bias": LOGIT_BIAS, "dtype": "float32"},
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
            "crop_padding": 0,
            "randaugment": 10,  # The magnitude, from 1 to 10; 0: none.
            "num_workers": 0,
            "on_device": False,
            "accumulation": 1,
            "penalty": 0.0,  # λ of the regularisation of W(x).
            "log_every": 100,
            "checkpoint_every": 1000,
        }
    )
