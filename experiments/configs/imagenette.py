"""CoDA-Nets on Imagenette, photographs of ten classes of ImageNet; the first run downloads them (99 MB).

    python -m experiments.imagenette --config=experiments/configs/imagenette.py:NAME --workdir=DIR

    NAME                        what it is
    5L-XS128-CoDA-SQ-T          ours, what two CPU cores train in two hours or less, at T: 1000, 3000,
                                10000, 30000 or 100000 (1,938,304 parameters)
    9L-M160-CoDA-SQ-100000      ours, for GPUs: M-CoDA with the optimisation of L-CoDA, at T = 100000, on images of 160
                                pixels
    B-cos-ResNet-16             ours, for a CPU: B-cos layers in the place of CoDA layers (1,623,584 parameters)

Trained are rectangles anywhere in the images, with a third of their area or more (B-cos: a fifth), resized, mirrored
and changed in brightness, contrast and saturation. Tests are on whole images, at `image_size`. Objects are larger in
the resized rectangles than in whole images, so that rectangles are made smaller than test images (`crop_size`), which
shows objects in one size, and costs less.

Kernels of CoDA-Nets are multiples of the strides, which leaves no grid in contribution maps: docs/interpretability.md
measures it.
Networks are sums over positions: they take images of any size, and `--config.image_size=160` tests on larger ones.

Cost: of XS128 0.78 GFLOP an image forward at 96 pixels and 1.39 at 128, of M160 37 at 144 pixels and 46 at 160; and
three times that a training step. Images are decoded anew in every epoch, which takes 0.6 ms of one core for each, and
with all changes 1.4 ms: a thirtieth of what XS128 takes for it, so that to keep 727 MB of decoded images would gain
little. For GPUs, `--config.num_workers=8` prepares them in so many processes.
On two cores of which other programs had most, a product of two 2048×2048 matrices made 50 to 74 GFLOP/s, and a step of
XS128 0.57 times as much by its own operations (the median of six times six steps). At that share two free cores, of 170
to 250 GFLOP/s, take 16 to 24 ms an image: 80 to 115 minutes for all epochs, and 1 for each test.
Expected result: with --config.model.dtype=bfloat16, 87.87% of the test images at T = 3000, 101 minutes on two cores of
which other programs had a part. Going on with `--config.init` at T = 30000 and then 100000 costs two points, and maps
point far better at the class: docs/results.md. That network comes with coda_jax as "imagenette". M160 has not been
trained.
"""

from typing import Any

from ml_collections import ConfigDict

from coda_jax.networks.coda_net import LOGIT_BIAS, M_CODA
from experiments.configs import imagenet
from experiments.configs.cifar10 import MUON
from experiments.configs.configuration import configuration, named

AUGMENTATION = {"crop_scale": 0.35, "colour": 0.2}
XS128 = {
    "channels": (16, 32, 64, 64, 10),
    "ranks": (8, 16, 16, 16, 32),
    "kernel_sizes": (4, 4, 4, 3, 5),
    "strides": (2, 2, 2, 1, 1),
    "paddings": (1, 1, 1, 1, 2),
}
M160 = {
    **M_CODA,
    "channels": (*M_CODA["channels"][:-1], 10),
    "kernel_sizes": (4, 3, 3, 4, 3, 3, 4, 3, 1),
    "paddings": (1, 1, 1, 1, 1, 1, 1, 1, 0),
}
# L-CoDA's schedule in proportion to the epochs. These 200 are a quarter of the steps of its 60, on 100 classes.
M160_SCHEDULE = {**imagenet.SCHEDULE, "num_epochs": 200, "warmup_epochs": 50, "decay_epochs": 67}
# A batch of 32, not CIFAR-10's 64, as 30 epochs of so few images are few steps. A test takes a quarter of an epoch.
XS128_SCHEDULE = {**MUON, "batch_size": 32, "num_epochs": 30, "log_every": 50, "test_every": 5, "checkpoint_every": 500}
B_COS = {
    "architecture": "bcos_resnet",
    "blocks": (2, 2, 2, 1),
    "width": 32,
    "num_classes": 10,
    "dtype": "float32",
}
# Three times as many epochs as of XS128 are for stronger changes.
B_COS_SCHEDULE = {
    **MUON,
    "batch_size": 64,
    "num_epochs": 100,
    "warmup_epochs": 2,
    "crop_scale": 0.2,
    "colour": 0.4,
    "log_every": 50,
    "test_every": 10,
}


def _coda(network: dict[str, Any], temperature: float) -> dict[str, Any]:
    return {**network, "norm": "sq", "temperature": temperature, "logit_bias": LOGIT_BIAS, "dtype": "float32"}


# The network and what else differs from the defaults, of each name.
NAMES = {
    **{
        f"5L-XS128-CoDA-SQ-{t}": (_coda(XS128, float(t)), {**XS128_SCHEDULE, "image_size": 128, "crop_size": 96})
        for t in (1000, 3000, 10000, 30000, 100000)
    },
    "9L-M160-CoDA-SQ-100000": (_coda(M160, 1e5), {**M160_SCHEDULE, "image_size": 160, "crop_size": 144}),
    "B-cos-ResNet-16": (B_COS, {**B_COS_SCHEDULE, "image_size": 128}),
}


def get_config(name: str = "") -> ConfigDict:
    """The configuration of that name; raises InputError if there is none."""
    model, changes = named("imagenette.py", NAMES, name, "5L-XS128-CoDA-SQ-3000")
    return configuration("imagenette", model, **{**AUGMENTATION, **changes})
