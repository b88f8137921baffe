"""Figures; nothing else of the library imports matplotlib."""

from coda_jax.errors.extras import need

need("pictures", "matplotlib")
