"""Make a network that others can load of a finished and measured run.

    python -m experiments.interpretability --workdir=RUN --methods=contributions
    python -m experiments.publish --workdir=RUN --name=NAME --config=experiments/configs/cifar10.py:5L-XS-CoDA-SQ-1000

writes coda_jax/pretrained_networks/NAME: config.json and model.safetensors, as `coda_jax.save_pretrained` does, with
the data set's name, and README.md, the model card. `coda_jax.load_pretrained(NAME)` then loads the network. All numbers
on the card are those that the first command measured. `--config` is the configuration that the run began with; the card
has the values in which it differs. `--float16` halves the size: parameters are rounded, and the test accuracy is
measured anew.
"""

import json
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from jinja2 import StrictUndefined, Template

from coda_jax import CoDANet, InputError
from coda_jax.data import DatasetInfo
from coda_jax.data.datasets import DATASETS
from coda_jax.errors import one_line
from coda_jax.errors.files import replace_files
from coda_jax.interop.pretrained import entries_of, load_explainable, pretrained_directory, weights_of
from coda_jax.networks.config_file import load_config, save_config
from coda_jax.networks.variables import Network
from coda_jax.training.checkpoints import Checkpoints
from coda_jax.training.run_directory import load_dataset
from experiments import command_line
from experiments.measurements import classify_precisely

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.")
_NAME = flags.DEFINE_string("name", None, "Of the network: small letters, digits and hyphens.")
_CONFIG = flags.DEFINE_string(
    "config", None, "FILE:NAME that the run was trained with; experiments/configs/DATASET.py if not given."
)
_DATA_NOTE = flags.DEFINE_string("data_note", None, "What the card is to say of the data besides, in a sentence.")
_FLOAT16 = flags.DEFINE_bool("float16", False, "Round the parameters to float16.")
_OUT = flags.DEFINE_string("out", "coda_jax/pretrained_networks", "Directory of the networks.")
flags.mark_flags_as_required(["workdir", "name"])

# They do not change what is learnt.
_LEFT_OUT = ("data_dir", "num_workers", "log_every", "test_every", "checkpoint_every")


def main() -> None:
    """Write the network that the flags name."""
    workdir, name = command_line.as_directory("workdir", _WORKDIR.value), _NAME.value
    if not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", name):
        raise InputError(f"--name={name}: must be of small letters, digits and hyphens, such as cifar10-xs")
    config, _ = load_config(workdir)
    about_data = _about(config.get("dataset"))
    commands = _training_commands(config)
    directory = command_line.as_directory("out", _OUT.value) / name
    model, variables, info = load_explainable(workdir)
    model = model.clone(dtype="float32")  # As it was measured.
    about_run = {
        "model": config["model"],
        "dataset": config["dataset"],
        "step": Checkpoints(workdir / "checkpoints").latest_step(),
    }
    measured = {
        metric: _measured(workdir, pattern, about_run)
        for metric, pattern in (
            ("accuracy", "accuracy.json"),
            ("localisation", "localisation_3x3-*/contributions.json"),
            ("removal", "pixel_removal-*/contributions.json"),
        )
    }
    if _FLOAT16.value:
        variables = jax.tree.map(lambda array: np.asarray(array, np.float16), variables)
        measured["accuracy"]["results"] |= {"accuracy": _accuracy(workdir, model, variables)}
    card = _card(config, about_data, commands, model, variables, info, measured)
    data_of_run = {key: config.get(key) for key in ("dataset", "image_size")}
    save_config(directory, data_of_run | {"model": entries_of(model)}, info, weights_of(model, variables))
    replace_files({directory / "README.md": card.encode()})
    size = sum(path.stat().st_size for path in directory.iterdir())
    print(f"{directory}: {size / 1e6:.1f} MB, test accuracy {measured['accuracy']['results']['accuracy']:.2%}")


def _about(dataset: Any) -> dict[str, str]:
    """The description and the licence of a data set, which its module has."""
    module = f"coda_jax.data.{DATASETS[dataset].module}" if dataset in DATASETS else None
    about = getattr(import_module(module), "ABOUT", None) if module else None
    if about is None:
        raise InputError(f"{module or 'coda_jax.data'} does not say what the data set {dataset!r} is: add ABOUT to it")
    return about


def _measured(workdir: Path, pattern: str, about_run: dict[str, Any]) -> dict[str, Any]:
    """The record in RUN/interpretability that was measured of this run on the most examples."""
    paths = list((workdir / "interpretability").glob(pattern))
    again = f"first python -m experiments.interpretability --workdir={workdir} --methods=contributions"
    if not paths:
        raise InputError(f"{workdir} has not been measured, as it has no interpretability/{pattern}: {again}")
    path = max(paths, key=lambda path: int(path.parent.name.rpartition("-")[2]) if len(paths) > 1 else 0)
    try:
        record = json.loads(path.read_text())
        same = record["produced_by"]["run"] == about_run
        _ = record["results"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({one_line(error)}): delete it, and {again}") from error
    if not same:
        raise InputError(f"{path} was measured of another network, or before training went on: {again}")
    return record


def _accuracy(workdir: Path, model: Network, variables: dict[str, Any]) -> float:
    """On the run's test images, in float32."""
    variables = jax.tree.map(lambda array: np.asarray(array, np.float32), variables)
    logits, labels = classify_precisely(model, variables, load_dataset(workdir))
    return float(np.mean(logits.argmax(-1) == labels))


def _training_commands(config: dict[str, Any], workdir: str = "RUN") -> list[str]:
    """The command that trains with this configuration in `workdir`, after those of the run that it began with.

    Raises InputError if that run is not there any more.
    """
    dataset, before, began_with = config["dataset"], [], config.get("init")
    if began_with and Path(began_with).is_dir():
        former = f"{workdir}-BEFORE"
        before = _training_commands(load_config(Path(began_with))[0], former)
        config = config | {"init": former}
    elif began_with:
        pretrained_directory(began_with)  # Raises unless it is the name of a network that comes with coda_jax.
    file = _CONFIG.value or f"experiments/configs/{dataset}.py"
    named = _flat(json.loads(json.dumps(command_line.load_config(file).to_dict())))
    differing = {key: value for key, value in _flat(config).items() if key in named and named[key] != value}
    values = (
        f"--config.{key}={tuple(value) if isinstance(value, list) else value}" for key, value in differing.items()
    )
    command = shlex.join(["python", "-m", "experiments.job", f"--config={file}", *values, f"--workdir={workdir}"])
    return [*before, command]


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """The entries that say what is learnt, those of the model as "model.ranks" and so on."""
    flat = {key: value for key, value in config.items() if key != "model" and key not in _LEFT_OUT}
    return flat | {f"model.{key}": value for key, value in config["model"].items()}


def _card(
    config: dict[str, Any],
    about_data: dict[str, str],
    commands: list[str],
    model: Network,
    variables: dict[str, Any],
    info: DatasetInfo,
    measured: dict[str, dict[str, Any]],
) -> str:
    """The model card, in Markdown after the entries that the Hugging Face Hub reads."""
    template = Path(__file__).with_name("model_card.md.jinja").read_text(encoding="utf-8")
    localisation, removal = measured["localisation"], measured["removal"]
    return Template(template, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True).render(
        {metric: record["results"] for metric, record in measured.items()},
        name=_NAME.value,
        config=config,
        settings=_flat(config) | ({"init": "RUN-BEFORE"} if len(commands) > 1 else {}),
        commands=commands,
        data=about_data,
        data_note=_DATA_NOTE.value,
        float16=_FLOAT16.value,
        kind=f"CoDA-Net of {len(model.channels)} layers" if isinstance(model, CoDANet) else model.title,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        preprocessing=info.preprocessing,
        class_names=map(one_line, info.class_names),
        step=measured["accuracy"]["produced_by"]["run"]["step"],
        grids=localisation["produced_by"]["metric"]["grids"],
        images=removal["produced_by"]["metric"]["images"],
        versions=localisation["versions"],
        device=localisation["device"],
    )


if __name__ == "__main__":
    command_line.run_without_config(main)
