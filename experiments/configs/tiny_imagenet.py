"""CoDA-Nets on Tiny-ImageNet, whose archive is fetched by hand: docs/tutorials/imagenet.md says from where to where.

    python -m experiments.tiny_imagenet --config=experiments/configs/tiny_imagenet.py:NAME --workdir=DIR

    NAME                        what it is
    9L-M-CoDA-SQ-T              M-CoDA at temperature T: 100, 1000 or 10000
    5L-XS64-CoDA-SQ-T           for a CPU, at T: 10, 100 or 1000: the network of configs/image_folder.py

The authors published no network for this data: the networks and temperatures are ours. M-CoDA is between their S-CoDA
and L-CoDA, with the optimisation of L-CoDA (60 epochs in batches of 64, a warm-up of 15). The augmentation is the
paper's for CIFAR-10: images are mirrored, and cropped after padding by an eighth of their side, which is 8 pixels here.
The last of `model.channels` is 0, to have the archive's classes counted: 200 in the official one.

Cost: M-CoDA 6.4 GFLOP an image forward, XS64 0.80 (0.33 for 20 classes), and three times that a training step.
Expected result: docs/results.md says what has been run, and what it reached.
"""

from ml_collections import ConfigDict

from coda_jax.networks.coda_net import LOGIT_BIAS, M_CODA, layers_for
from experiments.configs import image_folder, imagenet
from experiments.configs.configuration import configuration, named

MEDIUM = {**M_CODA, "channels": (*M_CODA["channels"][:-1], 0)}  # 0: counted, as many as there are classes.
CROPS = {"crop_padding": 8}
# The network, the temperature and the schedule of each name.
NAMES = {
    **{f"9L-M-CoDA-SQ-{t}": (MEDIUM, t, {**imagenet.SCHEDULE, **CROPS}) for t in (100, 1000, 10000)},
    **{f"5L-XS64-CoDA-SQ-{t}": (layers_for(64), t, {**image_folder.SCHEDULE, **CROPS}) for t in (10, 100, 1000)},
}


def get_config(name: str = "") -> ConfigDict:
    """The configuration of that name; raises InputError if there is none."""
    network, temperature, schedule = named("tiny_imagenet.py", NAMES, name, "9L-M-CoDA-SQ-1000")
    model = {**network, "norm": "sq", "temperature": float(temperature), "logit_bias": LOGIT_BIAS, "dtype": "float32"}
    return configuration("tiny_imagenet", model, **schedule)
