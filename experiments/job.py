"""The main job: train a CoDA-Net, evaluate it, and draw its contribution maps."""

import math
from pathlib import Path

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from coda_jax import CoDANet, InputError, add_inverse, data
from coda_jax.contributions import contribution_map, contributions
from coda_jax.data import on_device
from coda_jax.plotting.curves import learning_curves
from coda_jax.plotting.maps import contribution_sheet
from coda_jax.training import loop
from coda_jax.training.metrics_log import read_metrics
from coda_jax.training.optimizer import adam_with_step_decay
from coda_jax.training.run_directory import check_same_run, load_config, load_run, save_config
from experiments import processes

WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run; a run that is found there goes on.")
MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "explain"], "train: train, evaluate and explain; explain: redraw the maps of a run."
)
flags.mark_flag_as_required("workdir")

# They say where and how long, not what: a run may go on with others.
_FREE_KEYS = ("data_dir", "num_steps", "num_workers", "log_every", "checkpoint_every")
_LEAST = {
    **dict.fromkeys(("num_epochs", "num_steps", "decay_epochs", "log_every", "checkpoint_every", "accumulation"), 1),
    **dict.fromkeys(("crop_padding", "num_workers", "learning_rate"), 0),
}
_EXPLAINED = 12


def main(config: ConfigDict) -> None:
    """Train and explain the configuration in `--workdir`, or only explain the run that is there."""
    workdir = Path(WORKDIR.value).expanduser()
    if MODE.value == "train":
        processes.connect()
        model, variables, dataset = _train(config, workdir)
        if jax.process_index() != 0:
            return
    else:
        model, variables = load_run(workdir)
        dataset = data.load(load_config(workdir)["dataset"], config.data_dir)
    _explain(model, variables, dataset, workdir / "contributions.png")
    print(f"contribution maps: {workdir / 'contributions.png'}; metrics and curves are beside them")


def _train(config: ConfigDict, workdir: Path) -> tuple[CoDANet, dict, data.Dataset]:
    """Train, or go on, until the end; the network, its variables and its data."""
    for key, least in _LEAST.items():
        if config[key] is not None and config[key] < least:
            raise InputError(f"{key} is {config[key]}, but must be at least {least}")
    check_same_run(workdir, config.to_dict(), _FREE_KEYS)
    model = CoDANet(**config.model)
    dataset = data.load(config.dataset, config.data_dir)
    loop.check(model, dataset, config.batch_size, config.accumulation)
    resident = on_device.read(dataset.train) if config.on_device else None
    if jax.process_index() == 0:
        save_config(workdir, config.to_dict())
    optimizer = adam_with_step_decay(
        config.learning_rate,
        decay=config.decay,
        decay_epochs=config.decay_epochs,
        batch_size=config.batch_size,
        num_examples=len(dataset.train),
    )
    trained = loop.train(
        model,
        optimizer,
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
        resident=resident,
    )
    if jax.process_index() == 0:
        _report(workdir)
    return model, {"params": trained.params}, dataset


def _report(workdir: Path) -> None:
    """Draw the learning curves, and tell the test accuracy."""
    records = read_metrics(workdir / "metrics.jsonl")
    learning_curves(workdir / "curves.png", records)
    # A run that is asked for no further step may end with a record of training.
    tested = [record for record in records if "test_accuracy" in record]
    if tested:
        print(f"test accuracy after step {tested[-1]['step']}: {tested[-1]['test_accuracy']:.2%}")


def _explain(model: CoDANet, variables: dict, dataset: data.Dataset, path: Path) -> None:
    """Draw the contribution maps of the two most probable classes for the first images of the test set."""
    batch = next(data.test_batches(dataset.test, batch_size=_EXPLAINED))
    inputs = add_inverse(batch["image"])
    logits = np.asarray(jax.jit(model.apply)(variables, inputs))
    targets = np.argsort(-logits, axis=-1)[:, :2]
    contribution_sheet(
        path,
        images=batch["image"],
        maps=np.asarray(contribution_map(contributions(model, variables, inputs, targets))),
        targets=targets,
        probabilities=np.asarray(jax.nn.sigmoid(np.take_along_axis(logits, targets, axis=-1))),
        labels=batch["label"],
        class_names=dataset.class_names,
    )
