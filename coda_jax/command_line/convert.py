"""Make a run directory of a PyTorch checkpoint of the authors' code.

The file holds arrays only; what else the network needs comes with the architecture's name, or is to be given. PyTorch
must be installed, which reads the file; no code in it is run.

For example:
  coda-jax convert model_epoch_199.pkl runs/authors-s --temperature=1000
  coda-jax convert mine.pkl runs/mine --temperature=64 --strides=2,1 --paddings=1,0 --size=48 --classes=cat,dog
"""

import argparse
from pathlib import Path

from coda_jax.data.description import DatasetInfo
from coda_jax.data.preprocessing import Preprocessing
from coda_jax.errors import InputError
from coda_jax.errors.checks import check_whole
from coda_jax.interop.pretrained import entries_of, weights_of
from coda_jax.interop.torch import load_checkpoint
from coda_jax.networks.coda_net import L_CODA, S_CODA
from coda_jax.networks.config_file import save_config
from coda_jax.training.run_directory import check_writable

# Strides and paddings, the images, and the name of the data set.
_ARCHITECTURES = {
    "S-CoDA": (S_CODA, Preprocessing(32, 32), "cifar10"),
    "L-CoDA": (L_CODA, Preprocessing(240, 256), None),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="the .pkl file")
    parser.add_argument("run_directory", metavar="RUN", type=Path, help="the new directory")
    parser.add_argument("--temperature", metavar="T", type=float, required=True, help="that it was trained with")
    parser.add_argument("--norm", choices=("sq", "l2"), default="sq", help="%(default)s otherwise")
    gives = "gives strides, paddings, size and classes that are not given; %(default)s otherwise"
    parser.add_argument("--architecture", choices=tuple(_ARCHITECTURES), default="S-CoDA", help=gives)
    parser.add_argument("--strides", metavar="N,...", type=_numbers, help="of each layer")
    parser.add_argument("--paddings", metavar="N,...", type=_numbers, help="of each layer")
    parser.add_argument("--size", metavar="PIXELS", type=int, help="of the images")
    parser.add_argument("--classes", metavar="NAME,...", help="the names of the classes, in the order of the outputs")


def run(options: argparse.Namespace) -> None:
    """Read the checkpoint, and write the directory."""
    if (options.run_directory / "config.json").exists():
        raise InputError(f"{options.run_directory} holds a run already: name a new directory")
    check_writable(options.run_directory)
    known, preprocessing, dataset = _ARCHITECTURES[options.architecture]
    strides, paddings = options.strides or known["strides"], options.paddings or known["paddings"]
    model, variables = load_checkpoint(options.checkpoint, strides, paddings, options.norm, options.temperature)
    if options.size is not None:
        check_whole("--size", options.size)
        preprocessing = Preprocessing(options.size, options.size)
    classes = model.channels[-1]
    if options.classes is not None:
        class_names, dataset = options.classes.split(","), None
        if len(class_names) != classes:
            raise InputError(f"--classes names {len(class_names)} classes, but the network has {classes}")
    elif dataset == "cifar10" and classes == 10:
        # Imported here because it takes half a second, for libraries that few commands need.
        from coda_jax.data.cifar10 import CLASS_NAMES

        class_names = CLASS_NAMES
    else:
        class_names, dataset = [f"class {number}" for number in range(classes)], None
    config = {"dataset": dataset, "data_dir": None, "model": entries_of(model)}
    info = DatasetInfo(tuple(class_names), preprocessing)
    save_config(options.run_directory, config, info, weights_of(model, variables))
    print(f"{options.run_directory}: a run of {len(model.channels)} layers and {classes} classes, for coda-jax explain")


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]
