"""Ten minutes on one GPU: whether coda_jax is right there, how fast it is, and what a network learns in the time left.

python -m benchmarks.accelerator --data=FILE [--seconds=540] [--network=S] [--batch_sizes 128 16 1024] [--out=DIR]

`python -m benchmarks.encoded_cifar10` makes FILE. Needed are JAX, Flax, Optax, safetensors, and OpenCV or Pillow. There
are three phases, one after the other, each in a process of its own that is ended when its time is over:

1. agreement, a fifth of the time at most: what the accelerator computes against float64 on the CPU, in every precision.
2. speed, until six tenths of it: forward, training step and explanations, with their memory and their share of what
   products and memory would take, against PyTorch, eager and under `torch.compile`, where it is installed.
3. training, all the rest: the network learns CIFAR-10 in bfloat16, and is tested after every epoch. The newest
   parameters are left in DIR/epoch-NUMBER, in files below 16 MB; `read_parameters` reads them.

Each result is printed, and added to DIR/results.jsonl, as soon as it is there; what there is no time for is named.
Without an accelerator all phases work, too, but slowly: take --network=tiny --batch_sizes 16.
"""

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import traverse_util

from benchmarks import encoded_cifar10
from benchmarks.agreement import agreement
from benchmarks.gpu_speed import speed
from benchmarks.phases import network, run_phase, tell
from benchmarks.worker import NETWORKS
from coda_jax.training import fit

RECIPE = {"optimizer": "muon", "learning_rate": 0.02, "schedule": "cosine", "crop_padding": 4}
"""XS-CoDA's in experiments/configs/cifar10.py; it has not been tuned for S-CoDA."""
MOST_BYTES = 15_000_000
"""Of the arrays in a file of parameters, unless a single one has more."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Do all phases; wrong results and failed phases end it with status 1.

    Args:
        arguments: of the command line; None for those that the program was started with.
    """
    began = time.monotonic()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accelerator", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="of benchmarks.encoded_cifar10")
    parser.add_argument("--seconds", type=float, default=540.0, help="that all may take: 540")
    parser.add_argument("--network", choices=list(NETWORKS), default="S", help="S")
    parser.add_argument(
        "--batch_sizes", type=int, nargs="+", default=[128, 16, 1024], help="the first is trained with: 128 16 1024"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/accelerator"), metavar="DIR", help="runs/accelerator")
    options = parser.parse_args(arguments)
    if not options.data.is_file():
        parser.error(f"there is no file {options.data}: python -m benchmarks.encoded_cifar10 makes it")
    options.out.mkdir(parents=True, exist_ok=True)
    # One GPU is measured, of whose memory PyTorch's processes need a part.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if "cpu" not in (platforms := os.environ.get("JAX_PLATFORMS", "cpu")):
        os.environ["JAX_PLATFORMS"] = f"{platforms},cpu"  # For what is compared.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that the phase ends, too.
    shares = {agreement: 0.2, speed: 0.6, training: 1.0}
    well = [run_phase(phase, options, began + share * options.seconds) for phase, share in shares.items()]
    tell(options, "end", seconds=time.monotonic() - began)
    if not all(well):
        sys.exit(f"error: not all is well: see {options.out / 'results.jsonl'}")


def training(options: argparse.Namespace, deadline: float) -> bool:
    """The phase; all is well if it does not fail."""
    train, test = encoded_cifar10.read(options.data)

    def after_epoch(epoch: int, metrics: dict[str, float], variables: Mapping[str, Any]) -> None:
        directory = options.out / f"epoch-{epoch:03d}"
        write_parameters(directory, variables["params"])
        tell(options, "training", epoch=epoch, **metrics, parameters=str(directory))

    seconds = deadline - time.monotonic() - 2  # What ends the process does not know what it is doing.
    batch_size = options.batch_sizes[0]
    tell(options, "training", seconds=seconds, batch_size=batch_size, precision="bfloat16", **RECIPE)
    model = network(options, "bfloat16")
    fit(model, train, test, seconds=seconds, batch_size=batch_size, after_epoch=after_epoch, **RECIPE)
    return True


def write_parameters(directory: Path, params: Mapping[str, Any]) -> None:
    """Write parameters to safetensors files of up to 15 MB in a new directory, then delete those of earlier epochs."""
    files: list[dict[str, np.ndarray]] = [{}]
    for name, array in traverse_util.flatten_dict(params, sep=".").items():
        if sum(other.nbytes for other in files[-1].values()) + array.nbytes > MOST_BYTES:
            files.append({})
        files[-1][name] = np.array(array)
    unfinished = directory.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for number, arrays in enumerate(files):
        safetensors.numpy.save_file(arrays, unfinished / f"parameters-{number}.safetensors")
    shutil.rmtree(directory, ignore_errors=True)
    unfinished.rename(directory)
    for earlier in set(directory.parent.glob("epoch-*")) - {directory}:
        shutil.rmtree(earlier)


def read_parameters(directory: Path) -> dict[str, Any]:
    """What `write_parameters` wrote, as a network's variables."""
    arrays: dict[str, Any] = {}
    for file in directory.glob("*.safetensors"):
        arrays |= safetensors.numpy.load_file(file)
    params = {name: jnp.array(array) for name, array in arrays.items()}
    return {"params": traverse_util.unflatten_dict(params, sep=".")}


if __name__ == "__main__":
    main()
