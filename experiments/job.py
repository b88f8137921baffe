"""The main job: train a network, evaluate it, and draw its contribution maps, or those of Grad-CAM."""

import math
from pathlib import Path

import jax
import numpy as np
import optax
from absl import flags
from flax import linen as nn
from jax.tree_util import Partial
from ml_collections import ConfigDict

from coda_jax import CoDANet, HybridNet, InputError, add_inverse, data
from coda_jax.attribution.gradcam import gradcam
from coda_jax.checks import check_number, check_whole
from coda_jax.contributions import contribution_map, contributions, upsampled_map
from coda_jax.data import image_folder, on_device
from coda_jax.data.randaugment import LARGEST_MAGNITUDE
from coda_jax.networks.architectures import make_model
from coda_jax.plotting.curves import learning_curves
from coda_jax.plotting.maps import OF_FEATURES, contribution_sheet
from coda_jax.report import write_report
from coda_jax.training import loop
from coda_jax.training.metrics_log import read_metrics
from coda_jax.training.optimizer import learning_rate_schedule, make_optimizer
from coda_jax.training.run_directory import (
    check_same_classes,
    check_same_run,
    check_writable,
    load_dataset,
    load_run,
    save_config,
    save_dataset_info,
)
from coda_jax.training.run_lock import locked
from coda_jax.training.step import check_batch_size
from experiments import command_line, processes
from experiments.configs import digits

WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run; a run that is found there goes on.")
MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "explain"], "train: train, evaluate and explain; explain: redraw maps and report."
)
flags.mark_flag_as_required("workdir")

# They say where and how long, not what: a run may go on with others.
_FREE_KEYS = ("data_dir", "num_steps", "num_workers", "log_every", "checkpoint_every")
# What runs that began before there were these keys did.
_ADDED_KEYS = {
    "accumulation": 1,
    "penalty": 0.0,
    "optimizer": "adam",
    "weight_decay": 0.0,
    "schedule": "step",
    "warmup_epochs": 0,
    "warmup_from": 0.0,
    "randaugment": 0,
}
_LEAST = {
    **dict.fromkeys(
        ("image_size", "num_epochs", "num_steps", "decay_epochs", "log_every", "checkpoint_every", "accumulation"), 1
    ),
    **dict.fromkeys(("crop_padding", "randaugment", "num_workers", "seed", "warmup_epochs"), 0),
}
_SEEDS = 2**32
_EXPLAINED = 12


def main(config: ConfigDict) -> None:
    """Train and explain the configuration in `--workdir`, or only explain the run that is there."""
    workdir = command_line.as_directory("workdir", WORKDIR.value)
    for name in ("checkpoints", "tensorboard"):
        check_writable(workdir / name)
    for name in ("contributions.png", "curves.png", "gradcam.png", "metrics.jsonl", "report.html"):
        if (workdir / name).is_dir():
            raise InputError(f"cannot write to {workdir / name}: it is a directory")
    if MODE.value == "train":
        processes.connect()
        with locked(workdir):
            model, variables, dataset = _train(config, workdir)
        if jax.process_index() != 0:
            return
    else:
        model, variables = load_run(workdir)
        dataset = load_dataset(workdir, config.data_dir)
    if isinstance(model, CoDANet | HybridNet):
        path, name = workdir / "contributions.png", "contribution maps"
    else:
        path, name = workdir / "gradcam.png", "maps by Grad-CAM"
    _explain(model, variables, dataset, path)
    print(f"{name}: {path}; metrics and curves are beside them")
    if isinstance(model, CoDANet):
        report = write_report(workdir, dataset, (model, variables))
        print(f"the report, a page for any browser: {report}")
    else:
        print("there is no report, which is for CoDA-Nets")


def _train(config: ConfigDict, workdir: Path) -> tuple[nn.Module, dict, data.Dataset]:
    """Train, or go on, until the end; the network, its variables and its data."""
    _check(config)
    if config.dataset == "image_folder" or config.model.get("channels", ())[-1:] == (0,):
        _fill_in_classes(config, workdir)
    check_same_run(workdir, config.to_dict(), _FREE_KEYS, _ADDED_KEYS)
    model = make_model(config.model.to_dict())
    dataset = data.load(config.dataset, config.data_dir, config.image_size)
    loop.check(model, dataset, config.batch_size, config.accumulation, config.penalty)
    _check_data(config, dataset)
    resident = on_device.read(dataset.train) if config.on_device else None
    if jax.process_index() == 0:
        save_config(workdir, config.to_dict())
        save_dataset_info(workdir, dataset.info)
    trained = loop.train(
        model,
        _optimizer(config, len(dataset.train)),
        dataset,
        workdir=workdir,
        batch_size=config.batch_size,
        num_steps=config.num_steps or math.ceil(config.num_epochs * len(dataset.train) / config.batch_size),
        seed=config.seed,
        flip=config.flip,
        crop_padding=config.crop_padding,
        num_workers=config.num_workers,
        log_every=config.log_every,
        checkpoint_every=config.checkpoint_every,
        accumulation=config.accumulation,
        penalty=config.penalty,
        randaugment=config.randaugment,
        resident=resident,
    )
    if jax.process_index() == 0:
        _report(workdir)
    return model, trained.variables, dataset


def _fill_in_classes(config: ConfigDict, workdir: Path) -> None:
    """Where the last of the model's channels is 0, have as many as the data has classes."""
    if config.dataset == "image_folder":
        names = image_folder.class_names(config.data_dir)
    else:
        names = data.load(config.dataset, config.data_dir, config.image_size).info.class_names
    check_same_classes(workdir, names)
    channels = config.model.get("channels", ())
    if channels[-1:] == (0,):
        config.model.channels = (*channels[:-1], len(names))


def _report(workdir: Path) -> None:
    """Draw the learning curves, and tell the test accuracy."""
    records = read_metrics(workdir / "metrics.jsonl")
    learning_curves(workdir / "curves.png", records)
    # A run that is asked for no further step may end with a record of training.
    tested = [record for record in records if "test_accuracy" in record]
    if tested:
        print(f"test accuracy after step {tested[-1]['step']}: {tested[-1]['test_accuracy']:.2%}")


def _check(config: ConfigDict) -> None:
    """Raise InputError for a configuration of other keys or types than the experiments', or numbers out of range."""
    example = digits.get_config()
    if set(config) != set(example):
        differing = ", ".join(sorted(set(config) ^ set(example)))
        raise InputError(f"a configuration must have the keys {', '.join(example)}; too many or missing: {differing}")
    for key, value in config.items():
        kind = example.get_type(key)
        fits = isinstance(value, (int, float) if kind is float else kind) and isinstance(value, bool) == (kind is bool)
        if not fits and not (value is None and example[key] is None):
            raise InputError(f"{key} is {value!r}, but must be of type {kind.__name__}")
        if key in _LEAST and value is not None:
            check_whole(key, value, _LEAST[key])
    if config.seed >= _SEEDS:
        raise InputError(f"seed must be below 2³², not {config.seed}")
    check_number("penalty", config.penalty, least=0)
    if config.randaugment > LARGEST_MAGNITUDE:
        raise InputError(f"randaugment must be at most {LARGEST_MAGNITUDE}, not {config.randaugment}")
    if config.randaugment and config.on_device:
        raise InputError("with on_device images are mirrored and cropped only: use randaugment=0, or on_device=False")
    check_batch_size(config.batch_size, config.accumulation)
    _optimizer(config, num_examples=1)  # Refuses what it cannot use before data is downloaded.


def _optimizer(config: ConfigDict, num_examples: int) -> optax.GradientTransformation:
    schedule = learning_rate_schedule(
        config.learning_rate,
        config.schedule,
        decay=config.decay,
        decay_epochs=config.decay_epochs,
        warmup_epochs=config.warmup_epochs,
        warmup_from=config.warmup_from,
        num_epochs=config.num_epochs,
        batch_size=config.batch_size,
        num_examples=num_examples,
    )
    return make_optimizer(config.optimizer, schedule, config.weight_decay)


def _check_data(config: ConfigDict, dataset: data.Dataset) -> None:
    """Raise InputError for a batch or a crop that is larger than the data, or images that cannot be resident."""
    shape = dataset.train[0]["image"].shape  # An image that is damaged is likely to be found now.
    if config.batch_size > len(dataset.train):
        raise InputError(f"batch_size is {config.batch_size}, but there are {len(dataset.train)} training images")
    size = dataset.info.preprocessing.size
    if config.crop_padding > size:
        raise InputError(f"crop_padding is {config.crop_padding}, but must be at most the images' {size} pixels")
    if config.on_device and shape[:2] != (size, size):
        raise InputError(f"on_device needs images of one size, but those of {config.dataset} vary: use on_device=False")


def _explain(model: nn.Module, variables: dict, dataset: data.Dataset, path: Path) -> None:
    """Draw maps of the two most probable classes for the first images of the test set.

    Those of a CoDA-Net are its contributions, those of other networks are made by Grad-CAM.
    """
    batch = next(data.test_batches(dataset.test, batch_size=_EXPLAINED))
    inputs = add_inverse(batch["image"])
    logits = np.asarray(jax.jit(model.apply)(variables, inputs))
    targets = np.argsort(-logits, axis=-1)[:, :2]
    if isinstance(model, CoDANet):
        attributions, quantity = contributions(model, variables, inputs, targets), "contributions"
    elif isinstance(model, HybridNet):
        attributions, quantity = contributions(model, variables, inputs, targets), OF_FEATURES
    else:
        logits_fn, quantity = Partial(model.apply, variables), "Grad-CAM attributions"
        attributions = gradcam(logits_fn, inputs, targets, layer=model.gradcam_layer)
    contribution_sheet(
        path,
        images=batch["image"],
        maps=np.asarray(upsampled_map(contribution_map(attributions), inputs.shape[1:3])),
        targets=targets,
        probabilities=np.asarray(jax.nn.sigmoid(np.take_along_axis(logits, targets, axis=-1))),
        labels=batch["label"],
        class_names=dataset.info.class_names,
        quantity=quantity,
    )
