"""Training and evaluation of CoDA-Nets on one or many devices."""

from coda_jax.training.fit import fit as fit
