"""The main job: train a network, evaluate it, and draw its contribution maps, or those of Grad-CAM.

python -m experiments.job --config=FILE:NAME --workdir=DIR
"""

import sys
from pathlib import Path

import jax
import numpy as np
from absl import flags
from flax import linen as nn
from ml_collections import ConfigDict

from coda_jax import CoDANet, InputError, add_inverse, data, from_pretrained, load
from coda_jax.contributions import contribution_map, explain, upsampled_map
from coda_jax.data import image_folder
from coda_jax.errors.checks import check_whole
from coda_jax.interop.pretrained import Pretrained, entries_of
from coda_jax.networks.architectures import make_model
from coda_jax.networks.coda_net import layers_for
from coda_jax.networks.config_file import save_config
from coda_jax.networks.variables import Network
from coda_jax.plotting.curves import learning_curves
from coda_jax.plotting.maps import contribution_sheet
from coda_jax.report import write_report
from coda_jax.training import loop
from coda_jax.training.configuration import DEFAULTS, Training, check_type
from coda_jax.training.metrics_log import read_metrics
from coda_jax.training.run_directory import check_same_classes, check_same_run, check_writable, load_dataset
from coda_jax.training.run_lock import locked
from coda_jax.training.step import check_batch_size
from experiments import command_line, processes
from experiments.methods import METHODS, explains_itself

WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run; a run that is found there goes on.")
MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "explain"], "train: train, evaluate and explain; explain: redraw maps and report."
)
flags.mark_flag_as_required("workdir")

# They say where and how long, not what: a run may go on with others.
_FREE_KEYS = ("data_dir", "num_steps", "num_workers", "log_every", "test_every", "checkpoint_every")
# What a configuration says beside the training.
_KEYS = {"dataset": str, "data_dir": str | None, "image_size": int | None, "init": str | None, "model": ConfigDict}
_EXPLAINED = 12
_TEMPERATURE = 1000.0  # Of networks for images of one's own.


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
        model, variables, _ = from_pretrained(workdir)
        dataset = load_dataset(workdir, config.data_dir)
    _explain(model, variables, dataset, workdir)
    if isinstance(model, Network):
        print(f"the report, a page for any browser: {write_report(workdir, dataset, (model, variables))}")
    else:
        print("there is no report, which is for CoDA-Nets and B-cos networks")


def _train(config: ConfigDict, workdir: Path) -> tuple[nn.Module, dict, data.Dataset]:
    """Train, or go on, until the end; the network, its variables and its data."""
    training = _check(config)
    begin = _begin_with_trained(config) if config.init else None
    _fill_in_model(config)
    if config.dataset == "image_folder" or _classes_are_counted(config):
        _fill_in_classes(config, workdir)
    check_same_run(workdir, config.to_dict(), _FREE_KEYS, {**DEFAULTS, "init": None})
    model = make_model(config.model.to_dict())
    dataset = data.load(config.dataset, config.data_dir, config.image_size)
    loop.check(model, dataset, training)
    _check_data(config, dataset)
    if jax.process_index() == 0:
        save_config(workdir, config.to_dict(), dataset.info)
        for said in filter(None, (training.vanishing(), _of_another_size(config, begin, dataset))):
            print(said, file=sys.stderr)
    trained = loop.train(model, dataset, training, workdir, begin)
    if jax.process_index() == 0:
        records = read_metrics(workdir / "metrics.jsonl")
        learning_curves(workdir / "curves.png", records)
        # A run that is asked for no further step may end with a record of training.
        tested = [record for record in records if "test_accuracy" in record]
        if tested:
            print(f"test accuracy after step {tested[-1]['step']}: {tested[-1]['test_accuracy']:.2%}")
    return model, trained.variables, dataset


def _begin_with_trained(config: ConfigDict) -> Pretrained:
    """The network that `config.init` names.

    The configuration gets its layers, with classes to be counted, and what the configuration's own model leaves open.
    """
    trained = load(config.init)
    if not isinstance(trained.model, CoDANet):
        raise InputError(f"init is {config.init}, a {trained.model.title}, but must be a CoDA-Net")
    layers = {"channels": (*trained.model.channels[:-1], 0)}
    named = ("temperature", "logit_bias", "dtype")
    given = {name: config.model[name] for name in named if config.model.get(name) is not None}
    config.model = ConfigDict(entries_of(trained.model) | layers | given)
    return trained


def _of_another_size(config: ConfigDict, begin: Pretrained | None, dataset: data.Dataset) -> str | None:
    """What is to be said where the network was trained on images of another size."""
    size = dataset.info.preprocessing.size
    if begin is None or begin.info is None or begin.info.preprocessing.size == size:
        return None
    trained_on = begin.info.preprocessing.size
    return f"{config.init} was trained on images of {trained_on} pixels, and goes on with images of {size}"


def _fill_in_model(config: ConfigDict) -> None:
    """Have layers that fit the images' size, and a temperature, where the model's are not given."""
    for name in ("channels", "ranks", "kernel_sizes", "strides", "paddings"):
        if name in config.model and config.model[name] is None:
            config.model[name] = layers_for(config.image_size)[name]
    if config.model.get("temperature", _TEMPERATURE) is None:
        config.model.temperature = _TEMPERATURE


def _fill_in_classes(config: ConfigDict, workdir: Path) -> None:
    """Where the last of the model's channels is 0, have as many as the data has classes."""
    if config.dataset == "image_folder":
        names = image_folder.class_names(config.data_dir)
    else:
        names = data.load(config.dataset, config.data_dir, config.image_size).info.class_names
    check_same_classes(workdir, names)
    if _classes_are_counted(config):
        config.model.channels = (*config.model.channels[:-1], len(names))


def _classes_are_counted(config: ConfigDict) -> bool:
    return config.model.get("channels", ())[-1:] == (0,)


def _check(config: ConfigDict) -> Training:
    """The training; raises InputError for other keys or types than a configuration's, or numbers out of range."""
    keys = [*_KEYS, *DEFAULTS]
    if set(config) != set(keys):
        differing = ", ".join(sorted(set(config) ^ set(keys)))
        raise InputError(f"a configuration must have the keys {', '.join(keys)}; too many or missing: {differing}")
    for key, kind in _KEYS.items():
        check_type(key, config[key], kind)
    if config.image_size is not None:
        check_whole("image_size", config.image_size)
    training = Training(**{key: config[key] for key in DEFAULTS})
    check_batch_size(training.batch_size, training.accumulation)
    return training


def _check_data(config: ConfigDict, dataset: data.Dataset) -> None:
    """Raise InputError for a batch or a crop that is larger than the data, or images that cannot be resident."""
    shape = dataset.train[0]["image"].shape  # An image that is damaged is likely to be found now.
    if config.batch_size > len(dataset.train):
        raise InputError(f"batch_size is {config.batch_size}, but there are {len(dataset.train)} training images")
    size = dataset.info.preprocessing.size
    if config.crop_padding > size:
        raise InputError(f"crop_padding is {config.crop_padding}, but must be at most the images' {size} pixels")
    if config.crop_scale == 1 and (config.crop_size or 0) > size:
        raise InputError(f"crop_size is {config.crop_size}, but must be at most the images' {size} pixels")
    if config.on_device and shape[:2] != (size, size):
        raise InputError(f"on_device needs images of one size, but those of {config.dataset} vary: use on_device=False")


def _explain(model: nn.Module, variables: dict, dataset: data.Dataset, workdir: Path) -> None:
    """Draw maps of the two most probable classes for the first images of the test set.

    Those of a network that explains itself are its contributions, those of other networks are made by Grad-CAM.
    """
    batch = next(data.test_batches(dataset.test, batch_size=_EXPLAINED))
    inputs = add_inverse(batch["image"])
    if explains_itself(model):
        logits, targets, attributions = explain(model, variables, inputs, top=min(2, model.channels[-1]))
        path, name = workdir / "contributions.png", "contribution maps"
    else:
        logits = jax.jit(model.apply)(variables, inputs)
        targets = np.argsort(-logits, axis=-1)[:, :2]
        attributions = METHODS["gradcam"].explain(model, variables, inputs, targets)
        path, name = workdir / "gradcam.png", "maps by Grad-CAM"
    contribution_sheet(
        path,
        images=batch["image"],
        maps=np.asarray(upsampled_map(contribution_map(attributions), inputs.shape[1:3])),
        targets=np.asarray(targets),
        probabilities=np.asarray(jax.nn.sigmoid(np.take_along_axis(np.asarray(logits), np.asarray(targets), axis=-1))),
        labels=batch["label"],
        class_names=dataset.info.class_names,
        quantity=model.quantity,
    )
    print(f"{name}: {path}; metrics and curves are beside them")


if __name__ == "__main__":
    command_line.run(main)
