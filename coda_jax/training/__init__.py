"""Training and evaluation of CoDA-Nets on one or many devices."""

from coda_jax.extras import need

need("train", "grain", "tensorboardX", "tqdm")
