"""Say what a trained network is.

It prints the layers, what the network was trained on, and the last test accuracy on record or the model card's place.

For example:
  coda-jax info runs/digits
  coda-jax info digits            a network that comes with coda_jax
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp

from coda_jax.data.description import info_entries
from coda_jax.errors import one_line
from coda_jax.interop.pretrained import load_explainable, trained_directory
from coda_jax.networks.bcos_resnet import BcosResNet
from coda_jax.networks.hybrid import HybridNet
from coda_jax.training.metrics_log import read_metrics


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("trained", metavar="RUN", type=Path, help="the directory or name of the trained network")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(options: argparse.Namespace) -> None:
    """Print a table."""
    directory = trained_directory(options.trained)
    model, variables, info = load_explainable(directory, described=False)
    facts = {"network": str(options.trained), "title": model.title, "parameters": _count(variables["params"])}
    params, kind = variables["params"], "a CoDA-Net"
    if isinstance(model, HybridNet):
        of_trunk = f"{type(model.trunk).__name__} of {_count(params.get('trunk', {})):,} parameters"
        model, params, kind = model.head, params["head"], f"{of_trunk}, and on its features a CoDA-Net"
    facts |= {name: getattr(model, name) for name in ("temperature", "logit_bias")}
    facts["dtype"] = jnp.dtype(model.dtype).name
    head = f"temperature {model.temperature:g}, logit bias {model.logit_bias:.4g}, {facts['dtype']}"
    if isinstance(model, BcosResNet):
        lines = [f"{options.trained}: a {model.title} of {_count(params):,} parameters"]
        lines.append(f"B {model.b:g}, maxout {model.maxout}, {head}")
    else:
        lines = [f"{options.trained}: {kind} of {len(model.channels)} layers and {_count(params):,} parameters"]
        lines += [f"norm {model.norm}, {head}", "layer  channels  rank  kernel  stride  padding"]
        rows = zip(model.channels, model.ranks, model.kernel_sizes, model.strides, model.paddings, strict=True)
        for index, (channels, rank, kernel, stride, padding) in enumerate(rows):
            lines.append(f"{index:5}  {channels:8}  {rank:4}  {f'{kernel}×{kernel}':>6}  {stride:6}  {padding:7}")
    if info:
        facts |= info_entries(info)
        size, shorter_side, grey = info.preprocessing
        scaled = f", the centre of images whose shorter side has {shorter_side}" if shorter_side > size else ""
        lines.append(f"images: {size}×{size} pixels, {'grey' if grey else 'RGB'}{scaled}")
        lines.append(f"{len(info.class_names)} classes: {', '.join(map(one_line, info.class_names))}")
    tested = [record for record in read_metrics(directory / "metrics.jsonl") if "test_accuracy" in record]
    if tested:
        facts |= {name: tested[-1][name] for name in ("step", "test_accuracy")}
        lines.append(f"test accuracy after step {facts['step']}: {facts['test_accuracy']:.2%}")
    if (directory / "README.md").exists():
        facts["model_card"] = str(directory / "README.md")
        lines.append(f"model card: {facts['model_card']}")
    print(json.dumps(facts, indent=2) if options.json else "\n".join(lines))


def _count(params: object) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))
