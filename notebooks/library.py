# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What can be asked of a trained network
#
# `coda_jax.contributions` explains decisions of a trained network in your own code. This notebook goes through what it
# gives, and what the axes of the arrays are. `N` is the number of images, `T` of explained classes, `K` of all classes.

# %% tags=["parameters"]
NETWORK = "digits"  # A network that comes with coda_jax, or a directory: a run, or what train.ipynb kept.
DATASET = "digits"  # That of the network.
IMAGES = 6
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
# ## Load a network
#
# `load` gives the Flax module, its parameters, and the classes of the data. `with_gram` adds
# products of parameters that every call would make anew otherwise: for a few images at a time that is most of the work.

# %%
import jax
import numpy as np

import coda_jax
from coda_jax import add_inverse, data, load

model, variables, info = load(NETWORK)
variables = model.with_gram(variables)
class_names = info.class_names
print(f"coda_jax {coda_jax.__version__}; {len(model.channels)} layers, temperature {model.temperature:g}")
print("classes:", ", ".join(class_names))

# %% [markdown]
# ## Inputs
#
# Images are floating-point `[N, H, W, 3]` in [0, 1]; `add_inverse` appends their inverses. Bytes, or channels first,
# are refused with a message rather than explained wrongly.

# %%
test = data.load(DATASET).test
images = np.stack([test[index]["image"] for index in range(IMAGES)]) / np.float32(255)
inputs = add_inverse(images)
logits = jax.jit(model.apply)(variables, inputs)
predicted = np.argmax(logits, axis=1)
print("images ", images.shape)
print("inputs ", inputs.shape)
print("logits ", logits.shape, "predicted:", [class_names[label] for label in predicted])

# %% [markdown]
# ## The predicted class
#
# Without `targets`, the class with the largest logit is explained. Each value says what one channel of one pixel adds
# to the logit; `contribution_map` sums over the channels.

# %%
from coda_jax.contributions import contribution_map, contributions, layer_contributions, linear_weights

of_predicted = contributions(model, variables, inputs)  # [N, 1, H, W, 6]
maps = contribution_map(of_predicted)  # [N, 1, H, W]
print("contributions", of_predicted.shape, "maps", maps.shape)

explained = maps.sum((2, 3))[:, 0] + model.logit_bias
np.testing.assert_allclose(explained, np.max(logits, axis=1), rtol=1e-4)

# %%
import matplotlib.pyplot as plt

from coda_jax.plotting.maps import plot_map


def show(columns, titles):
    """One row of pictures; arrays of two axes are maps, in a colour scale of their own."""
    figure, axes = plt.subplots(1, len(columns), figsize=(1.8 * len(columns), 2.2), layout="constrained", squeeze=False)
    for axis, picture, title in zip(axes[0], map(np.asarray, columns), titles, strict=True):
        if picture.ndim == 2:
            plot_map(picture, axis)
        else:
            axis.imshow(picture)
            axis.set_axis_off()
        axis.set_title(title, fontsize=9)
    plt.show()


show(images, ["image"] * IMAGES)
show(maps[:, 0], [class_names[label] for label in predicted])

# %% [markdown]
# ## All classes, or those of your choice
#
# One forward pass serves any number of classes. `targets` is `"all"`, one class of each image `[N]`, or several
# `[N, T]`.

# %%
of_all = contribution_map(contributions(model, variables, inputs, targets="all"))  # [N, K, H, W]
print("all classes:", of_all.shape)
show(of_all[0], [f"{name}: {logit:.1f}" for name, logit in zip(class_names, logits[0], strict=True)])

first_two = np.argsort(-logits)[:, :2]  # [N, 2]
of_two = contribution_map(contributions(model, variables, inputs, first_two))  # [N, 2, H, W]
why_not_the_second = of_two[:, 0] - of_two[:, 1]  # The same holds for differences: they sum to that of the logits.
show(why_not_the_second, [f"{class_names[a]} − {class_names[b]}" for a, b in first_two])

# %% [markdown]
# ## Inside the network
#
# The input of every layer can be explained in the same way: layer 0 is the image, the last one the input of the head.
# The sum is the logit without its bias everywhere.

# %%
for layer in range(len(model.channels) + 1):
    of_layer = layer_contributions(model, variables, inputs, layer=layer)  # [N, 1, Hl, Wl, Cl]
    print(f"layer {layer}: {of_layer.shape}, first image's sum {of_layer[0].sum():.4f}")

# %% [markdown]
# ## The matrix itself
#
# `linear_weights` gives rows of `W(x)`, in the same shapes. Times the input they are the contributions. For another
# image it is another matrix.

# %%
rows = linear_weights(model, variables, inputs)  # [N, 1, H, W, 6]
np.testing.assert_allclose(rows * inputs[:, None], of_predicted, rtol=1e-5, atol=1e-6)

# %% [markdown]
# ## Many images
#
# `chunk_size` explains so many images at a time, which bounds the memory; the results are the same. Inside
# `jax.jit`, as here, the whole function is compiled once for each shape of its inputs.


# %%
@jax.jit
def explain(variables, inputs):
    """The logits [N, K], and the map of the predicted class [N, H, W]."""
    logits = model.apply(variables, inputs)
    return logits, contribution_map(contributions(model, variables, inputs, chunk_size=2))[:, 0]


np.testing.assert_allclose(explain(variables, inputs)[1], maps[:, 0], rtol=1e-4, atol=1e-5)
