"""A page for the browser on which one drops a picture and sees why a network decides as it does."""

from coda_jax.extras import need

need("app", "gradio")
need("pictures", "matplotlib")

from coda_jax.app.page import launch as launch  # noqa: E402
