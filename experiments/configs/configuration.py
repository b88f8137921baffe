"""What every configuration of the experiments says."""

import difflib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

from coda_jax.errors import InputError


def configuration(dataset: str, model: Mapping[str, Any], **values: Any) -> ConfigDict:
    """A configuration.

    Args:
        dataset: as `coda_jax.data.load` has it.
        model: as `coda_jax.networks.architectures.make_model` takes it.
        values: of other keys, where they are not those below.
    """
    config = ConfigDict(
        {
            "dataset": dataset,
            "data_dir": config_dict.placeholder(str),  # None: TFDS's default directory.
            "image_size": config_dict.placeholder(int),  # None: that of the data.
            "model": dict(model),
            "seed": 0,
            "batch_size": 64,
            "num_epochs": 60,
            "num_steps": config_dict.placeholder(int),  # None: all epochs.
            "optimizer": "adam",
            "weight_decay": 0.0,
            "learning_rate": 1e-3,  # The highest.
            "warmup_epochs": 0,  # In which it grows from warmup_from.
            "warmup_from": 0.0,
            "schedule": "step",  # Or "cosine", without the next two.
            "decay": 1.5,  # The learning rate is divided by it every decay_epochs.
            "decay_epochs": 30,
            "flip": True,
            "crop_padding": 0,  # In pixels.
            "randaugment": 0,  # The magnitude, from 1 to 10; 0: none.
            "num_workers": 0,
            "on_device": False,
            "accumulation": 1,
            "penalty": 0.0,  # λ of the regularisation of W(x).
            "log_every": 100,
            "checkpoint_every": 1000,
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
