# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What does your classifier look at?
#
# A CoDA-Net answers exactly: every logit is the sum of what each pixel contributed to it. This notebook asks a trained
# network about pictures of yours, from the web or uploaded. It takes a minute on a CPU.

# %% tags=["parameters"]
NETWORK = "imagenette"  # A network that comes with coda_jax, or the directory of a run of yours.
PICTURES = []  # Addresses, "https://...", and names of files; [] takes the examples that come with the network.
UPLOAD = False  # True asks for files, in Colab.
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

# %% [markdown]
# ## The pictures

# %%
import os

from matplotlib_inline.backend_inline import set_matplotlib_formats

import coda_jax
from coda_jax.interop.pretrained import pretrained_directory

set_matplotlib_formats("jpeg")  # Photographs take much less room than as PNG.

if UPLOAD:
    from google import colab

    PICTURES = list(colab.files.upload())
files = []
for name in PICTURES or sorted((pretrained_directory(NETWORK) / "examples").glob("*.*"))[:4]:
    if "://" in str(name):
        import pooch

        name = pooch.retrieve(name, known_hash=None)
    files.append(os.path.relpath(name))
network = coda_jax.load(NETWORK)
print("The classes that it knows:", ", ".join(network.info.class_names))

# %% [markdown]
# ## What it sees
#
# For each picture, its three most probable classes. Red speaks for the class, blue against it. The network knows its
# own classes and nothing else: where none of them has more than 50%, it says that it recognises none.

# %%
explained = coda_jax.explain(network, files, top=3)
print(explained)
explained.show()

# %% [markdown]
# ## Why this, and not that?
#
# The difference of two maps sums to the difference of the logits: it says where the picture speaks for the first class
# rather than for the second.

# %%
import matplotlib.pyplot as plt
import numpy as np

from coda_jax.plotting.maps import plot_map

differences = explained.contribution_maps[:, 0] - explained.contribution_maps[:, 1]  # [N, H, W]
figure, axes = plt.subplots(1, len(files), figsize=(3 * len(files), 3.4), layout="constrained", squeeze=False)
for axis, difference, targets in zip(axes[0], differences, explained.targets, strict=True):
    plot_map(difference, axis)
    first, second = (explained.class_names[target] for target in targets[:2])
    axis.set_title(f"{first} rather than {second}\n{difference.sum():+.1f}", fontsize=9)
plt.show()

# %% [markdown]
# ## Is it so?
#
# A test of the maps: cut the picture into 4×4 squares, and take one away at a time. If the maps say the truth, the
# logit loses most without a square that contributed much.

# %%
model, variables, _ = network
height, width = explained.images.shape[1:3]
square_of = np.arange(height)[:, None] * 4 // height * 4 + np.arange(width) * 4 // width  # [H, W]: 0 to 15.
kept = np.arange(16)[:, None, None] != square_of  # [16, H, W]
inputs = coda_jax.add_inverse(explained.images / np.float32(255))  # [N, H, W, 6]
figure, axes = plt.subplots(1, len(files), figsize=(3 * len(files), 3.2), layout="constrained", squeeze=False)
for axis, encoded, target, of_pixels in zip(
    axes[0], inputs, explained.targets[:, 0], explained.contribution_maps[:, 0], strict=True
):
    contributed = (of_pixels * ~kept).sum((1, 2))  # [16]
    # Zero in all six channels: such a pixel has neither a colour nor a contribution.
    without = np.asarray(model.apply(variables, encoded * kept[..., None]))[:, target]  # [16]
    axis.plot(contributed, contributed.sum() + model.logit_bias - without, "o")
    axis.set(xlabel="what a square contributed", ylabel="what the logit loses without it")
    axis.set_title(explained.class_names[target], fontsize=9)
plt.show()

# %% [markdown]
# ## Inside and outside
#
# Does the thing itself decide, or what surrounds it? Contributions can be summed over any region: here, over the
# middle of the picture, half as wide and half as high. With the box of an object in its place, you find the pictures
# that the network decides by their background.

# %%
middle = np.s_[:, height // 4 : height - height // 4, width // 4 : width - width // 4]
of_first = explained.contribution_maps[:, 0]  # [N, H, W]
for source, inside, total in zip(explained.sources, of_first[middle].sum((1, 2)), of_first.sum((1, 2)), strict=True):
    print(f"{Path(source).name}: {inside:.1f} of {total:.1f} come from the middle")

# %% [markdown]
# ## A classifier of your own
#
# - A folder of pictures becomes a CoDA-Net that explains itself: `docs/tutorials/own-data.md`, in about ten minutes.
# - `train.ipynb` trains on arrays.
# - Another network, in JAX or Flax, is explained from outside by `coda_jax.attribution`.
