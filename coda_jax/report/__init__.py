"""The report of a run: one HTML file that shows what the network learnt, and why it decides as it does."""

from coda_jax.errors.extras import need

need("all", "grain", "jinja2", "matplotlib", "tensorboardX", "tqdm")

from coda_jax.report.report import write_report as write_report  # noqa: E402
