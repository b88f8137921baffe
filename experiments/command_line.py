"""Command lines whose flags are a configuration, and on which a mistake is answered with one line and exit status 1."""

import argparse
import difflib
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from coda_jax.command_line.program import answer_mistakes, keep_compiled_programs, refuse
from coda_jax.errors import InputError


def run(main: Callable[[ConfigDict], None], default_config: str | None = None) -> None:
    """Parse the flags and run `main`; a mistake of the user's ends the program with a line on standard error.

    Args:
        main: takes the configuration that `--config=FILE` or `--config=FILE:NAME` names, with the values that flags
            such as `--config.batch_size=64` give.
        default_config: what `--config` is where it is not given; None where it must be.
    """

    def define_config(arguments: list[str]) -> list[str]:
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
        parser.add_argument("--config", default=default_config)
        known, others = parser.parse_known_args(arguments)
        if {"--help", "--helpshort", "--helpfull"} & set(others):
            keys = f": {', '.join(load_config(known.config))}" if known.config else ""
            what = f"FILE or FILE:NAME; FILE tells its names. --config.KEY=VALUE changes one of the keys{keys}."
            flags.DEFINE_string("config", known.config, what)
        else:
            config = load_config(known.config)
            _check_keys(config, others)
            config_flags.DEFINE_config_dict("config", config, sys_argv=others)
        return others

    _run(lambda: main(flags.FLAGS.config), define_config)


def run_without_config(main: Callable[[], None]) -> None:
    """Parse the flags and run `main`, with mistakes answered as `run` does."""
    _run(main, lambda arguments: arguments)


def _run(main: Callable[[], None], own_flags: Callable[[list[str]], list[str]]) -> None:
    """Give absl the arguments that `own_flags` leaves, and run `main`."""

    def parse(arguments: Sequence[str]) -> list[str]:
        try:
            given = own_flags(list(arguments))
            for module, defined in flags.FLAGS.flags_by_module_dict().items():
                if module.startswith("experiments."):  # --help tells no others but those of the program's own file.
                    for flag in defined:
                        flags.FLAGS.register_key_flag_for_module(given[0], flag)
            return flags.FLAGS(given)
        except (InputError, flags.Error, argparse.ArgumentError, TypeError, ValueError) as error:
            refuse(error)

    def guarded(arguments: Sequence[str]) -> None:
        with answer_mistakes("lower --config.batch_size, or set --config.on_device=False"):
            if len(arguments) > 1:
                raise InputError(f"unexpected argument {arguments[1]!r}: settings are given as --name=value")
            keep_compiled_programs()
            main()

    logging.set_verbosity(logging.FATAL)  # Orbax tells much that a user need not read, and raises the rest.
    sys.unraisablehook = _tell_unraisable
    app.run(guarded, flags_parser=parse)


def _tell_unraisable(unraisable: Any) -> None:
    """Tell what Python cannot raise, but nothing of the writes that a checkpoint left behind when it failed."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def load_config(config: str | None) -> ConfigDict:
    """What `get_config(NAME)`, or `get_config()`, of the file in FILE:NAME, or FILE, returns."""
    if not config:
        raise InputError("--config=FILE:NAME is missing")
    file, _, name = config.partition(":")
    if not Path(file).is_file():
        raise InputError(f"--config={config}: there is no file {file}")
    try:
        get_config = runpy.run_path(file)["get_config"]
    except (SyntaxError, KeyError, ValueError) as error:
        raise InputError(f"--config={config}: {file} is not a Python file with a function get_config") from error
    except Exception as error:
        raise InputError(f"--config={config}: {file} raises {type(error).__name__}: {error}") from error
    try:
        loaded = get_config(name) if name else get_config()
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"--config={config}: get_config raises {type(error).__name__}: {error}") from error
    if not isinstance(loaded, ConfigDict):
        raise InputError(f"--config={config}: get_config must return a ConfigDict, not {type(loaded).__name__}")
    return loaded


def as_directory(flag: str, value: str) -> Path:
    """The directory that a flag names; raises InputError where it names none."""
    if not value:
        raise InputError(f"--{flag}=DIR is missing")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise InputError(f"--{flag}={value}: there is no such home directory") from error


def _check_keys(config: ConfigDict, arguments: Sequence[str]) -> None:
    """Raise InputError, which names the nearest right keys, for an argument --config.KEY that is not one."""
    for argument in arguments:
        if argument.startswith("--config."):
            keys, level = argument.removeprefix("--config.").partition("=")[0], config
            for key in keys.split("."):
                if not isinstance(level, ConfigDict) or key not in level:
                    names = list(level) if isinstance(level, ConfigDict) else []
                    near = difflib.get_close_matches(key, names, cutoff=0.4) or names
                    raise InputError(f"the configuration has no key {keys!r}: {key!r} could be {', '.join(near)}")
                level = level[key]
