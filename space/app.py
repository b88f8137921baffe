"""The page of `coda-jax app` as a Space on the Hugging Face Hub; docs/tutorials/serving.md says how to publish it."""

from coda_jax.command_line.app_page import launch

launch("imagenette", host="0.0.0.0")
