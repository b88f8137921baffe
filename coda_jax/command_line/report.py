"""Write the page that shows a run: RUN/report.html.

It shows accuracy, mistakes, and what every pixel of chosen test images contributed, in one file that opens in a browser
and needs no internet. Training writes it at its end; written anew, it has the figures that
`python -m experiments.interpretability` made since.

For example:
  coda-jax report runs/digits
"""

import argparse
from pathlib import Path

from coda_jax.report import write_report
from coda_jax.training.run_directory import load_dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("workdir", metavar="RUN", type=Path, help="the directory of the run")
    parser.add_argument("--data", metavar="DIR", help="where the run's data is now, if not where it was")


def run(options: argparse.Namespace) -> None:
    """Write the page."""
    print(write_report(options.workdir, load_dataset(options.workdir, options.data)))
