"""CoDA-Nets on CIFAR-10, by the names that the authors gave theirs.

    python -m experiments.cifar10 --config=experiments/configs/cifar10.py:NAME --workdir=DIR

    NAME                        what it is
    9L-S-CoDA-SQ-T              S-CoDA at temperature T: 10, 50, 100, 500, 1000 (the one evaluated), 5000 or 10000
    9L-S-CoDA-L2-1000           the same with the L2 norm, T = 1000
    9L-S-CoDA-SQ-rank-F         ranks F, F, 2F (seven times), F: 4, 8, 16 or 144, T = 1000
    9L-S-CoDA-SQ-lambda-L       a penalty of weight L on W(x), L: 0, 0.1, 0.25, 0.5 or 1, T = 64
    5L-XS-CoDA-SQ-T             ours, for a CPU: 310,528 parameters, T: 10, 100, 1000 or 10000
    Hybrid-B-SQ-T               ours, for a CPU: B blocks of ResNet-8, then CoDA layers, B: 0 to 3, T: 10, 100 or 1000
    ResNet-20, ResNet-56        to compare with: residual networks of 0.27 and 0.86 million parameters
    VGG-11                      to compare with: 9.2 million parameters
    ResNet-20-short             ResNet-20 in 10 epochs, for a CPU

Cost: S-CoDA takes the paper's 200 epochs of 50,000 images at 2.1 GFLOP forward and three times that a training step:
on two CPU cores about half an hour an epoch. XS-CoDA takes 18 epochs, under 40 minutes on two CPU cores.
Hybrids take 6 epochs, estimated at 15 to 25 minutes there, not measured.
A step of ResNet-20 on 128 images takes 0.9 s of processor time, by which its 10 epochs are half an hour there.
With `--config.on_device=True` the training images live on the devices, where they are shuffled and augmented (154 MB on
each): for accelerators that would wait for the host. The batches are others, of the same distribution.
With a penalty a training step takes 2.6 times as long (XS-CoDA, two CPU cores).
With `--config.model.dtype=bfloat16` products have bfloat16 factors and float32 sums, for accelerators made for that.
Expected result: docs/results.md says what has been run, and what it reached.
"""

import difflib

from ml_collections import ConfigDict, config_dict

from coda_jax.comparison.vgg import VGG_11
from coda_jax.errors import InputError
from coda_jax.models import LOGIT_BIAS, S_CODA, XS_CODA

# What a name adds to S-CoDA at T = 1000 with the norm SQ.
S_VARIANTS = {
    **{f"9L-S-CoDA-SQ-{t}": {"temperature": float(t)} for t in (10, 50, 100, 500, 1000, 5000, 10000)},
    **{f"9L-S-CoDA-SQ-rank-{f}": {"ranks": (f, f, *(2 * f,) * 7)} for f in (4, 8, 16, 144)},
    "9L-S-CoDA-L2-1000": {"norm": "l2"},
}
PENALTIES = {f"9L-S-CoDA-SQ-lambda-{weight}": float(weight) for weight in ("0", "0.1", "0.25", "0.5", "1")}
XS_TEMPERATURES = {f"5L-XS-CoDA-SQ-{t}": float(t) for t in (10, 100, 1000, 10000)}

# The CoDA layers after so many of ResNet-8's three blocks: what follows features of 32×32, 32×32, 16×16 and 8×8 pixels
# ends at 8×8, and a step takes, as estimated, about the same time.
HYBRID_HEADS = {
    0: XS_CODA,
    1: XS_CODA,
    2: {
        "channels": (32, 32, 10),
        "ranks": (16, 16, 32),
        "kernel_sizes": (3, 3, 1),
        "strides": (2, 1, 1),
        "paddings": (1, 1, 0),
    },
    3: {"channels": (32, 10), "ranks": (16, 32), "kernel_sizes": (3, 1), "strides": (1, 1), "paddings": (1, 0)},
}
HYBRIDS = {f"Hybrid-{blocks}-SQ-{t}": (blocks, float(t)) for blocks in HYBRID_HEADS for t in (10, 100, 1000)}

CONVENTIONAL = {
    "ResNet-20": {"architecture": "resnet", "depth": 20},
    "ResNet-56": {"architecture": "resnet", "depth": 56},
    "VGG-11": {"architecture": "vgg", "stages": VGG_11},
    "ResNet-20-short": {"architecture": "resnet", "depth": 20},
}


def get_config(name: str = "") -> ConfigDict:
    """The configuration of that name.

    Raises:
        InputError: there is none.
    """
    config = ConfigDict(
        {
            "dataset": "cifar10",
            "data_dir": config_dict.placeholder(str),  # None: TFDS's default directory.
            "image_size": config_dict.placeholder(int),  # That of the data.
            "model": {**S_CODA, "norm": "sq", "temperature": 1000.0, "logit_bias": LOGIT_BIAS, "dtype": "float32"},
            "seed": 0,
            "batch_size": 16,
            "num_epochs": 200,
            "num_steps": config_dict.placeholder(int),  # None: all epochs.
            "optimizer": "adam",
            "weight_decay": 0.0,
            "learning_rate": 2.5e-4,  # The highest.
            "warmup_epochs": 0,  # In which it grows from warmup_from.
            "warmup_from": 0.0,
            "schedule": "step",  # Or "cosine", without the next two.
            "decay": 1.5,  # The learning rate is divided by it every decay_epochs.
            "decay_epochs": 30,
            "flip": True,
            "crop_padding": 4,
            "num_workers": 0,
            "on_device": False,
            "accumulation": 1,
            "penalty": 0.0,  # λ of the regularisation of W(x).
            "log_every": 100,
            "checkpoint_every": 1000,
        }
    )
    if name in S_VARIANTS:
        config.model.update(S_VARIANTS[name])
    elif name in XS_TEMPERATURES:
        config.model.update({**XS_CODA, "temperature": XS_TEMPERATURES[name]})
        config.update({"batch_size": 64, "num_epochs": 18, "learning_rate": 2.5e-3, "decay_epochs": 3})
    elif name in HYBRIDS:
        blocks, temperature = HYBRIDS[name]
        config.model = {
            "architecture": "hybrid",
            "trunk": {"architecture": "resnet", "depth": 8, "blocks": blocks, "dtype": "float32"},
            "head": {**config.model, **HYBRID_HEADS[blocks], "temperature": temperature},
        }
        config.update({"batch_size": 64, "num_epochs": 6, "learning_rate": 2.5e-3, "decay_epochs": 1})
    elif name in CONVENTIONAL:
        config.model = {**CONVENTIONAL[name], "num_classes": 10, "dtype": "float32"}
        config.update({"batch_size": 128, "learning_rate": 2e-3, "weight_decay": 0.05})
        config.update({"schedule": "cosine", "warmup_epochs": 5})
        if name == "ResNet-20-short":
            config.update({"num_epochs": 10, "warmup_epochs": 1})
    elif name in PENALTIES:
        config.model.temperature = 64.0
        config.penalty = PENALTIES[name]
    elif not name:
        raise InputError("cifar10.py holds several configurations: name one, as in cifar10.py:5L-XS-CoDA-SQ-100")
    else:
        near = difflib.get_close_matches(
            name, (*S_VARIANTS, *XS_TEMPERATURES, *PENALTIES, *HYBRIDS, *CONVENTIONAL), n=3, cutoff=0
        )
        raise InputError(f"cifar10.py has no configuration {name!r}: the nearest are {', '.join(near)}")
    return config
