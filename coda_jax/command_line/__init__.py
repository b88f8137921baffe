"""Explain, evaluate, show and convert trained CoDA-Nets and B-cos networks.

A RUN is the directory of a training run, such as runs/digits, or one that save_pretrained wrote; or, where there is no
such directory, the name of a network that comes with coda_jax, such as digits, or of one for ImageNet that its authors
published, such as bcos-resnet50, which is downloaded at the first use.

For example:
  coda-jax explain runs/cifar10-xs cat.jpg holiday/ dance.gif
  coda-jax evaluate runs/cifar10-xs
  coda-jax COMMAND --help      tells all of a command
"""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

import jax

from coda_jax import __version__
from coda_jax.command_line.program import answer_mistakes, keep_compiled_programs, refuse
from coda_jax.errors.extras import need


class _Parser(argparse.ArgumentParser):
    """A parser that keeps the lines of its texts, and answers a mistake with one line."""

    def __init__(self, **options):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        refuse(f"{message}; see {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the arguments, those of the program by default, name."""
    with answer_mistakes(when_memory_is_full="free some, or give smaller or fewer images"):
        version = _Parser(add_help=False, allow_abbrev=False)
        version.add_argument("--version", action="version", version=f"coda_jax {__version__}, jax {jax.__version__}")
        version.parse_known_args(arguments)  # What asks for the version ends here, before the extras are needed.
        need("all", "cv2", "grain", "jinja2", "matplotlib", "tensorboardX", "tqdm")
        options = _parse(arguments, version)
        keep_compiled_programs()
        options.run(options)


def _parse(arguments: Sequence[str] | None, version: argparse.ArgumentParser) -> argparse.Namespace:
    """The options of a command, and what runs it."""
    # Imported here because they need the extras.
    from absl import logging

    from coda_jax.command_line import app, convert, evaluate, explain, export, info, report

    logging.set_verbosity(logging.FATAL)  # Orbax tells much that a user need not read, and raises the rest.
    parser = _Parser(prog="coda-jax", description=__doc__, parents=[version])
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (explain, app, evaluate, report, info, export, convert):
        name = command.__name__.rpartition(".")[2]
        own = commands.add_parser(name, help=command.__doc__.partition("\n")[0], description=command.__doc__)
        command.add_arguments(own)
        own.set_defaults(run=command.run)
    given = sys.argv[1:] if arguments is None else arguments
    return parser.parse_args(given or ["--help"])
