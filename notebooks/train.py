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
EPOCHS = 30
BATCH_SIZE = 64  # Of all devices together.
GRIDS = 30  # For the localisation metric.
WORKDIR = "runs/notebook"  # A training that was interrupted goes on from there.
# Where coda_jax is taken from if it is not installed. It has no public address yet: in Colab, or wherever else this
# notebook is without its clone, write here the address of yours, "git+https://...", or the path of an uploaded .zip.
SOURCE = ".."

# %%
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

if importlib.util.find_spec("coda_jax") is None:
    tpu = list(Path("/dev").glob("accel*")) + list(Path("/dev").glob("vfio/*"))
    extras = "all,cuda" if shutil.which("nvidia-smi") else "all,tpu" if tpu else "all"
    if "://" not in SOURCE and not (Path(SOURCE) / "setup.cfg").is_file() and Path(SOURCE).suffix != ".zip":
        raise SystemExit(f"no clone of coda_jax is in {Path(SOURCE).resolve()}: write in SOURCE where it is")
    address = SOURCE if "://" in SOURCE else Path(SOURCE).resolve().as_uri()
    print("installing coda_jax, which takes some minutes")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", f"coda_jax[{extras}] @ {address}"], check=True)

# %%
import jax

import coda_jax

devices = jax.devices()
print(f"coda_jax {coda_jax.__version__}, jax {jax.__version__}")
print(f"{len(devices)} device(s) of the kind {devices[0].device_kind}, platform {devices[0].platform}")

# %% [markdown]
# If an accelerator is missing from this list, JAX was installed without support for it: see
# [JAX's guide](https://docs.jax.dev/en/latest/installation.html), then restart the kernel.
#
# ## Data
#
# Images are bytes, `[N, H, W, 3]`, and labels whole numbers. Arrays of your own do as well.

# %%
from coda_jax import data
from coda_jax.data.on_device import read

dataset = data.load(DATASET)
train, test = read(dataset.train), read(dataset.test)
print("training images", train["image"].shape, train["image"].dtype)
print("test images    ", test["image"].shape)
print("classes:", ", ".join(dataset.info.class_names))

# %% [markdown]
# ## Training
#
# A network is a stack of layers of dynamic alignment units, and its temperature. All devices train, each with its share
# of the batch. After each epoch the state is saved: where the kernel was interrupted, run the cell again to go on.

# %%
from tqdm import tqdm

from coda_jax.networks.coda_net import XS_CODA
from coda_jax.training import fit

SMALL = {
    "channels": (16, 32, 10),
    "ranks": (16, 16, 16),
    "kernel_sizes": (3, 3, 1),
    "strides": (1, 2, 1),
    "paddings": (1, 1, 0),
}
digits = DATASET == "digits"
model = coda_jax.CoDANet(**(SMALL if digits else XS_CODA), temperature=10.0 if digits else 1000.0)
history = {}
bar = tqdm(total=EPOCHS, unit="epoch", mininterval=3)


def after_epoch(epoch, metrics, variables):
    """Keep the metrics, and move the bar."""
    history[epoch] = metrics
    bar.set_postfix({name: f"{metrics[name]:.3f}" for name in ("loss", "accuracy", "test_accuracy")}, refresh=False)
    bar.update(epoch - bar.n)


variables = fit(
    model,
    train,
    test,
    epochs=EPOCHS,
    batch_size=max(BATCH_SIZE // len(devices), 1) * len(devices),
    workdir=WORKDIR,
    after_epoch=after_epoch,
    optimizer="muon",
    learning_rate=0.02,
    schedule="cosine",
    flip=not digits,
    crop_padding=1 if digits else 4,
)
bar.close()

# %%
import matplotlib.pyplot as plt

_, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
    for kind, label in ((name, "training"), (f"test_{name}", "test")):
        axis.plot(list(history), [metrics[kind] for metrics in history.values()], ".-", label=label)
    axis.set(xlabel="epoch", ylabel=name)
    axis.legend()
plt.show()

# %% [markdown]
# ## Explaining
#
# Every logit is a sum of contributions from the pixels. Red speaks for the class, blue against it. Here are the two
# most probable classes of four test images.

# %%
network = (model, variables, dataset.info)
explained = coda_jax.explain(network, test["image"][:4], top=2)
explained.show()

# %% [markdown]
# It is no estimate: the maps' sums and the bias are the logits, up to rounding.

# %%
import numpy as np

sums = explained.contribution_maps.sum((2, 3)) + explained.logit_bias  # [4, 2]
logits = np.take_along_axis(explained.logits, explained.targets, axis=1)
print("largest difference:", np.abs(sums - logits).max(), "of logits up to", np.abs(logits).max())

# %% [markdown]
# ## Do the maps point at the right thing?
#
# Test images of different classes are put together in grids of 3×3, and each class is explained on the whole grid. Its
# score is the share of its positive contribution that falls on its own image: 1/9 if the map knew nothing.

# %%
from coda_jax import add_inverse
from coda_jax.contributions import contribution_map, contributions
from coda_jax.metrics.localisation import compose_grids, draw_grids, localisation_score

images, labels = test["image"] / np.float32(255), test["label"]
classify = jax.jit(model.apply)
logits = np.concatenate([classify(variables, add_inverse(images[i : i + 500])) for i in range(0, len(images), 500)])
print(f"test accuracy: {np.mean(logits.argmax(1) == labels):.1%}")

cells = draw_grids(logits, labels, count=GRIDS, seed=0)  # [GRIDS, 9]: which image is in which cell.
grids = compose_grids(add_inverse(images), cells)  # [GRIDS, 3 H, 3 W, 6]
maps = contribution_map(contributions(model, variables, grids, labels[cells], chunk_size=10))  # [GRIDS, 9, 3 H, 3 W]
scores = np.asarray(localisation_score(maps))
print(f"localisation: mean {scores.mean():.3f}, median {np.median(scores):.3f}; by chance {1 / 9:.3f}")

# %% [markdown]
# ## Keep it
#
# Two files, in the layout of the Hugging Face Hub; `coda_jax.load` reads them, and so does the command `coda-jax`. The
# notebook `library.ipynb` shows what else can be asked of a network.

# %%
coda_jax.save_pretrained(f"{WORKDIR}/network", *network)

# %% [markdown]
# The paper's networks are trained by `python -m experiments.cifar10` in a clone, with a report at the end;
# `python -m experiments.interpretability --workdir=...` takes all metrics of all methods.
