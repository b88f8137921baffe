"""Figures; the only importer of matplotlib."""

from coda_jax.extras import need

need("pictures", "matplotlib")
