"""Write the page that shows a run: RUN/report.html.

It shows accuracy, mistakes, and what every pixel of chosen test images contributed, in one file that opens in a browser
and needs no internet. Training writes it at its end; written anew, it has the figures that
`python -m experiments.interpretability` made since.

The page of a network that comes with coda_jax is written to NAME-report.html, in the current directory.

For example:
  coda-jax report runs/digits
  coda-jax report digits
"""

import argparse
from pathlib import Path

from coda_jax.interop.pretrained import trained_directory
from coda_jax.report import write_report
from coda_jax.training.run_directory import load_dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("trained", metavar="RUN", type=Path, help="the directory or name of the trained network")
    parser.add_argument("--data", metavar="DIR", help="where its data is, if not where it was")


def run(options: argparse.Namespace) -> None:
    """Write the page."""
    directory = trained_directory(options.trained)
    path = None if directory == options.trained else Path(f"{directory.name}-report.html")
    print(write_report(directory, load_dataset(directory, options.data), path=path))
