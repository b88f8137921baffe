"""Serve a page on which one drops a picture and sees why the network decides as it does.

It shows the classes with their probabilities, the contribution maps of any two of them over the picture and their
difference, what each pixel says, the sums that make the logits, and the maps of every layer. Only browsers on this
machine reach it, unless --host says otherwise.

For example:
  coda-jax app                    shows a network for photographs that comes with coda_jax
  coda-jax app runs/mine --examples=my-photographs
"""

import argparse

from coda_jax.errors.extras import need


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    name = "imagenette"
    parser.add_argument("trained", metavar="RUN", nargs="?", default=name, help="the network; %(default)s otherwise")
    whom = "0.0.0.0 for all who reach this machine; %(default)s, this machine alone, otherwise"
    parser.add_argument("--host", default="127.0.0.1", help=whom)
    parser.add_argument("--port", type=int, default=7860, help="%(default)s otherwise")
    parser.add_argument("--examples", metavar="DIR", help="a folder of pictures to offer; RUN/examples otherwise")


def run(options: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    need("app", "gradio")
    from coda_jax.command_line.app_page import launch  # Which cannot be imported without.

    launch(options.trained, options.host, options.port, options.examples)
