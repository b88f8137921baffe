# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Train a CoDA-Net, look at what it sees, and measure it
#
# On whatever this machine has: a TPU, GPUs, or a CPU, one device or several. With the settings below it takes a minute
# or two on a CPU, and downloads nothing but the library.

# %% tags=["parameters"]
DATASET = "digits"  # Or "cifar10": 170 MB are downloaded, and an accelerator is worth having.
STEPS = 700
BATCH_SIZE = 64  # Of all devices together.
GRIDS = 30  # For the localisation metric.
WORKDIR = "runs/notebook"  # A run that is found there goes on.
SOURCE = ".."  # Where coda_jax is not installed: a clone of it, or its address as git+https://...

# %% [markdown]
# ## What is here

# %%
import subprocess
import sys

try:
    import coda_jax
except ModuleNotFoundError:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", SOURCE], check=True)
    import coda_jax

# %%
import jax

devices = jax.devices()
print(f"coda_jax {coda_jax.__version__}, jax {jax.__version__}")
print(f"{len(devices)} device(s) of the kind {devices[0].device_kind}, platform {devices[0].platform}")

# %% [markdown]
# If an accelerator is missing from this list, JAX was installed without support for it: see
# [JAX's guide](https://docs.jax.dev/en/latest/installation.html), then restart the kernel.
#
# ## Data
#
# Images are bytes, `[H, W, 3]`; a network takes them in [0, 1], with their inverses as three further channels.

# %%
from coda_jax import add_inverse, data

dataset = data.load(DATASET)
print(f"{len(dataset.train)} training images of {dataset.train[0]['image'].shape}, {len(dataset.test)} test images")
print("classes:", ", ".join(dataset.info.class_names))

# %% [markdown]
# ## Training
#
# A network is a stack of layers of dynamic alignment units, and its temperature. The training step runs on all devices,
# each with its share of the batch. Interrupting the kernel saves the state first; run the cell again to go on.

# %%
import math
from pathlib import Path

from coda_jax.config_file import save_config
from coda_jax.networks.coda_net import XS_CODA
from coda_jax.training import loop
from coda_jax.training.configuration import Training
from coda_jax.training.run_directory import check_same_run

SMALL = {
    "channels": (16, 32, 10),
    "ranks": (16, 16, 16),
    "kernel_sizes": (3, 3, 1),
    "strides": (1, 2, 1),
    "paddings": (1, 1, 0),
}
network = {**SMALL, "temperature": 10.0} if DATASET == "digits" else {**XS_CODA, "temperature": 100.0}
batch_size = max(BATCH_SIZE // len(devices), 1) * len(devices)
config = {"dataset": DATASET, "batch_size": batch_size, "model": network}

workdir = Path(WORKDIR)
check_same_run(workdir, config, free_keys=())
save_config(workdir, config, dataset.info)
training = Training(
    batch_size=batch_size,
    num_epochs=math.ceil(STEPS * batch_size / len(dataset.train)),
    num_steps=STEPS,
    learning_rate=2.5e-3,
    schedule="cosine",
    flip=DATASET == "cifar10",
    crop_padding=1 if DATASET == "digits" else 4,
    log_every=50,
    checkpoint_every=500,
)
trained = loop.train(coda_jax.CoDANet(**network), dataset, training, workdir)

# %%
import matplotlib.pyplot as plt

from coda_jax.plotting.curves import plot_learning_curve
from coda_jax.training.metrics_log import read_metrics

records = read_metrics(workdir / "metrics.jsonl")
_, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
plot_learning_curve(records, "loss", left)
plot_learning_curve(records, "accuracy", right)
plt.show()

# %% [markdown]
# ## Explaining
#
# Every logit is a sum of contributions from the pixels. Red speaks for the class, blue against it.

# %%
import numpy as np
from IPython.display import Image

from coda_jax.contributions import contribution_map, contributions
from coda_jax.plotting.maps import contribution_sheet

model, variables, _ = coda_jax.load(workdir)
classify = jax.jit(model.apply)

batch = next(data.test_batches(dataset.test, batch_size=9))
inputs = add_inverse(batch["image"])  # [9, H, W, 6]
logits = np.asarray(classify(variables, inputs))  # [9, 10]
targets = np.argsort(-logits)[:, :2]  # The two most probable classes of each image.
maps = np.asarray(contribution_map(contributions(model, variables, inputs, targets)))  # [9, 2, H, W]

contribution_sheet(
    workdir / "contributions.png",
    images=batch["image"],
    maps=maps,
    targets=targets,
    probabilities=np.asarray(jax.nn.sigmoid(np.take_along_axis(logits, targets, axis=1))),
    labels=batch["label"],
    class_names=dataset.info.class_names,
)
Image(workdir / "contributions.png")

# %% [markdown]
# It is no estimate: the maps' sums and the bias are the logits, up to rounding.

# %%
explained = np.take_along_axis(logits, targets, axis=1)
print(
    "largest difference:",
    np.abs(maps.sum((2, 3)) + model.logit_bias - explained).max(),
    "of logits up to",
    explained.max(),
)

# %% [markdown]
# ## Do the maps point at the right thing?
#
# Test images of different classes are put together in grids of 3×3, and each class is explained on the whole grid. Its
# score is the share of its positive contribution that falls on its own image: 1/9 if the map knew nothing.

# %%
from coda_jax.metrics.localisation import compose_grids, draw_grids, localisation_score

batches = list(data.test_batches(dataset.test, batch_size=min(500, len(dataset.test))))
images = np.concatenate([batch["image"] for batch in batches])[: len(dataset.test)]
labels = np.concatenate([batch["label"] for batch in batches])[: len(dataset.test)]
logits = np.concatenate([classify(variables, add_inverse(batch["image"])) for batch in batches])[: len(dataset.test)]
print(f"test accuracy: {np.mean(logits.argmax(1) == labels):.1%}")

cells = draw_grids(logits, labels, count=GRIDS, seed=0)  # [GRIDS, 9]: which image is in which cell.
grids = compose_grids(add_inverse(images), cells)  # [GRIDS, 3 H, 3 W, 6]
maps = contribution_map(contributions(model, variables, grids, labels[cells], chunk_size=10))  # [GRIDS, 9, 3 H, 3 W]
scores = np.asarray(localisation_score(maps))
print(f"localisation: mean {scores.mean():.3f}, median {np.median(scores):.3f}; by chance {1 / 9:.3f}")

# %% [markdown]
# ## Next
#
# The network is in `WORKDIR`: the notebook `library.ipynb` loads it and shows what can be asked of it. The paper's
# networks are trained by `python -m experiments.cifar10` in a clone, and
# `python -m experiments.interpretability --workdir=...` takes all metrics of all methods, of this run too.
