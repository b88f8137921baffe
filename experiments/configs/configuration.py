"""What every configuration of the experiments says."""

import difflib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

from coda_jax.errors import InputError
from coda_jax.training.configuration import DEFAULTS


def configuration(dataset: str, model: Mapping[str, Any], **values: Any) -> ConfigDict:
    """A configuration.

    Args:
        dataset: as `coda_jax.data.load` has it.
        model: as `coda_jax.networks.architectures.make_model` takes it. `experiments.job` fills in lists of layers
            that are not given, by the images' size, and for 0 as the last of `channels` the number of classes.
        values: of `coda_jax.training.configuration.Training`, where they are not its defaults; `image_size`.
    """
    config = ConfigDict(
        {
            "dataset": dataset,
            "data_dir": config_dict.placeholder(str),  # None: TFDS's default directory.
            "image_size": config_dict.placeholder(int),  # None: that of the data.
            "init": config_dict.placeholder(str),  # None: random parameters.
            "model": dict(model),
            **DEFAULTS,
            "num_steps": config_dict.placeholder(int),  # None: all epochs.
            "crop_size": config_dict.placeholder(int),  # None: as in Training.
        }
    )
    config.update(values)
    return config


def named(file: str, configurations: Mapping[str, Any], name: str, example: str) -> Any:
    """The entry of that name.

    Args:
        file: that holds the configurations, for messages.
        configurations: by their names.
        name: of one of them.
        example: another name, to say what one looks like.

    Raises:
        InputError: there is no such entry, or the name is empty.
    """
    if not name:
        raise InputError(f"{file} holds several configurations: name one, as in {file}:{example}")
    if name not in configurations:
        near = difflib.get_close_matches(name, configurations, n=3, cutoff=0)
        raise InputError(f"{file} has no configuration {name!r}: the nearest are {', '.join(near)}")
    return configurations[name]
