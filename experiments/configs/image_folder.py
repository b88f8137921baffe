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

from ml_collections import ConfigDict

from coda_jax.networks.coda_net import LOGIT_BIAS
from experiments.configs.configuration import configuration

# Also for Tiny-ImageNet.
NETWORK = {
    "channels": (16, 32, 32, 64, 0),  # 0: counted, as many as there are classes.
    "ranks": (8, 8, 16, 16, 32),
    "kernel_sizes": (4, 4, 4, 3, 1),
    "strides": (2, 2, 2, 1, 1),
    "paddings": (1, 1, 1, 1, 0),
    "norm": "sq",
    "temperature": 100.0,
    "logit_bias": LOGIT_BIAS,
    "dtype": "float32",
}
SCHEDULE = {"batch_size": 32, "num_epochs": 20, "learning_rate": 2e-3, "decay_epochs": 4, "crop_padding": 8}


def get_config() -> ConfigDict:
    """The configuration, of which `data_dir` is to be given: the folder."""
    return configuration("image_folder", NETWORK, image_size=64, **SCHEDULE, log_every=50, checkpoint_every=500)
