"""Measure explanations of a B-cos ResNet-50 against the published way in PyTorch, on this machine's CPU.

python -m benchmarks.bcos [--quick] [--out=runs/benchmarks]

Times of one image of 224×224 pixels: the forward pass, with the contributions to one class, and to ten classes, for
which the peer goes forward once and back ten times. Both programs run in turn in one process; every speed is a ratio.
Takes about two minutes on two cores; with --quick, a ResNet-18 and images of 64 pixels, half a minute.
"""

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import machine
from benchmarks.timing import medians, print_table, ratio, seconds_of
from coda_jax import add_inverse
from coda_jax.contributions import explain
from coda_jax.networks.bcos_resnet import RESNET_18, RESNET_50, BcosResNet

TASKS = {
    "forward": "forward",
    "one": "forward and contributions, one class",
    "ten": "forward and contributions, ten classes",
}
CLASSES = 10
TOLERANCE = 1e-4


def programs(model: BcosResNet, images: np.ndarray) -> dict[str, dict[str, Callable[[], np.ndarray]]]:
    """For each of `TASKS` what does it once by "ours" and by "peer", for float32 images [N, H, W, 3].

    They return logits without bias [N, K] or contributions [N, T, H, W, 6], of the most probable class or of the first
    ten. The parameters are random, with variances at which outputs are neither tiny nor huge.
    """
    import torch  # Only the peer needs it.

    from benchmarks import bcos_peer

    variables = jax.jit(model.init)(jax.random.key(0), add_inverse(images))
    variables = {**variables, "batch_stats": jax.tree.map(lambda ones: ones / 100, variables["batch_stats"])}
    inputs = jax.device_put(add_inverse(images))
    ten = np.tile(np.arange(CLASSES), (len(images), 1))
    forward = jax.jit(model.apply)
    peer = bcos_peer.PublishedBcosResNet(model, variables)
    placed = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()

    def peer_forward() -> np.ndarray:
        with torch.inference_mode():
            return peer(bcos_peer.encode(placed)).numpy() - model.logit_bias

    def by_peer(classes: int | None) -> np.ndarray:
        return bcos_peer.contributions(peer, placed, classes).movedim(2, -1).numpy()

    return {
        "forward": {
            "peer": peer_forward,
            "ours": lambda: np.asarray(forward(variables, inputs)) - model.logit_bias,
        },
        "one": {
            "peer": lambda: by_peer(None),
            "ours": lambda: np.asarray(explain(model, variables, inputs).contributions),
        },
        "ten": {
            "peer": lambda: by_peer(CLASSES),
            "ours": lambda: np.asarray(explain(model, variables, inputs, ten).contributions),
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, measure, print and write.

    Args:
        arguments: of the command line; None for those that the program was started with.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bcos", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a ResNet-18 and images of 64 pixels, in half a minute")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), metavar="DIR", help="runs/benchmarks")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("torch") is None:
        sys.exit("error: the peer needs PyTorch: pip install 'coda_jax[benchmarks]', or '.[benchmarks]' in a checkout")
    options.out.mkdir(parents=True, exist_ok=True)
    model = BcosResNet(**(RESNET_18 if options.quick else RESNET_50), num_classes=1000)
    size, rounds = (64, 3) if options.quick else (224, 7)
    images = np.random.default_rng(0).random((1, size, size, 3), np.float32)
    found, seconds = {}, {}
    for task, by_program in programs(model, images).items():
        expected, ours = by_program["peer"](), by_program["ours"]()
        found[task] = float(np.abs(ours - expected).max() / np.abs(expected).max())
        if not found[task] <= TOLERANCE:
            sys.exit(f"error: the programs do not agree to {TOLERANCE} at {TASKS[task]!r}: {found[task]}")
        times = medians([partial(seconds_of, run) for run in by_program.values()], rounds=rounds, warm_ups=1)
        seconds[task] = dict(zip(by_program, times, strict=True))
    print_table(
        f"{model.title}, one image of {size}×{size} pixels, float32; medians",
        ["", "peer ms", "ours ms", "peer / ours"],
        [
            [TASKS[task], 1000 * times["peer"], 1000 * times["ours"], ratio(times["peer"], times["ours"])]
            for task, times in seconds.items()
        ],
    )
    print(f"  they differ by at most {max(found.values()):.1g} of the largest value")
    load = os.getloadavg()[0]
    print(f"  {load:.1f} programs ran at a time in the last minute, of which this one is about two")
    results: dict[str, Any] = {"machine": machine.describe(), "load": load, "seconds": seconds, "differences": found}
    (options.out / "bcos.json").write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    print(f"\nwrote {options.out / 'bcos.json'}")


if __name__ == "__main__":
    main()
