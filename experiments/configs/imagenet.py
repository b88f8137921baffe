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

from ml_collections import ConfigDict

from coda_jax.networks.coda_net import L_CODA, LOGIT_BIAS, S_CODA
from experiments.configs.configuration import configuration, named

# Of the authors' L-CoDA.
SCHEDULE = {
    "learning_rate": 1e-3,
    "warmup_epochs": 15,
    "warmup_from": 2.5e-4,
    "decay": 2.0,
    "decay_epochs": 20,
}
# The data set and the network of each name.
NAMES = {
    "9L-L-CoDA-SQ-100000": ("imagenet100", L_CODA),
    "9L-L1000-CoDA-SQ-100000": (
        "imagenet",
        {key: (*L_CODA[key][:-1], S_CODA[key][-1]) for key in L_CODA} | {"channels": (*L_CODA["channels"][:-1], 1000)},
    ),
}


def get_config(name: str = "") -> ConfigDict:
    """The configuration of that name; raises InputError if there is none."""
    dataset, network = named("imagenet.py", NAMES, name, "9L-L-CoDA-SQ-100000")
    model = {**network, "norm": "sq", "temperature": 1e5, "logit_bias": LOGIT_BIAS, "dtype": "float32"}
    return configuration(dataset, model, **SCHEDULE, randaugment=10)
