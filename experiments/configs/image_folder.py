"""A small CoDA-Net for images of one's own, which are in a folder with a subfolder for each class.

    python -m experiments.image_folder --config.data_dir=DIR --workdir=RUN

DIR has `train/CLASS/...` and `test/CLASS/...` or `val/CLASS/...`; or `CLASS/...` alone, and a fifth of every class is
held back to be tested on. docs/tutorials/own-data.md goes all the way. The last of `model.channels` is the number of
classes, or 0 to have it counted.

The network is ours, for a CPU, and goes by `--config.image_size` (`coda_jax.networks.coda_net.layers_for`): its first
layer has a stride of 2 for 64 pixels, and of 4 from 128 pixels on. A list that is given, such as
`--config.model.ranks`, is taken instead. `--config.init=NAME` begins with a trained network, its layers, parameters
and, unless `--config.model.temperature` is given, temperature: a run, or one that comes with the library. In its last
layer, classes that it does not know by name begin anew.

There are 500 steps at least: of few images more epochs, so that they are as many.
Trained are rectangles of the images, with a fifth of their area or more, resized to three quarters of the image size,
mirrored, and changed in brightness, contrast and saturation.
Cost of such a crop forward: 0.17 GFLOP where images have 64 pixels, 0.22 where they have 128, 0.64 where they have 224;
and three times that a training step.
Expected result: 80.4% of 1,891 of Imagenette's training images, which were held back from the other 7,578; and with 50
images of each of 20 classes of Tiny-ImageNet, 30.4% of 1,000 others, or 54.8% with `--config.init=imagenette`; all with
`--config.model.dtype=bfloat16`.
"""

from ml_collections import ConfigDict, config_dict

from coda_jax.networks.coda_net import LOGIT_BIAS
from experiments.configs.cifar10 import MUON
from experiments.configs.configuration import configuration

SCHEDULE = {**MUON, "batch_size": 32, "num_epochs": 20}  # Also for Tiny-ImageNet.
AUGMENTATION = {"crop_scale": 0.2, "colour": 0.4}


def get_config() -> ConfigDict:
    """The configuration, of which `data_dir` is to be given: the folder."""
    layers = ("channels", "ranks", "kernel_sizes", "strides", "paddings")
    model = {name: config_dict.placeholder(tuple) for name in layers}  # None: those that fit the images' size.
    temperature = config_dict.placeholder(float)  # None: that of the network that `init` names, or 1000.
    model |= {"norm": "sq", "temperature": temperature, "logit_bias": LOGIT_BIAS, "dtype": "float32"}
    return configuration(
        "image_folder",
        model,
        image_size=128,
        **SCHEDULE,
        **AUGMENTATION,
        min_steps=500,
        log_every=50,
        checkpoint_every=500,
    )
