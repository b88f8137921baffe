"""Model the time of a training step on 1 to 512 chips, and check the model's computation on this machine.

python -m benchmarks.step_time [--out=runs/benchmarks]

The operations and the memory traffic of a step are those of the compiled program, as XLA counts them; the chips'
limits are their vendors' numbers, of which a share of `ACHIEVED` is assumed. Nothing is measured but the check. How
many images a processor core prepares in a second is read from DIR/input_pipeline.json, if
`python -m benchmarks.input_pipeline` has left it there. Prints tables, and writes DIR/step_time.json. Takes about two
minutes on two cores.
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import machine, ours
from benchmarks.timing import medians, print_table
from benchmarks.worker import machine_limits, workers
from coda_jax import CoDANet
from coda_jax.alignment import chunks
from coda_jax.networks.coda_net import L_CODA, S_CODA
from coda_jax.training import state as training_state
from coda_jax.training.configuration import Training
from coda_jax.training.step import mapped_train_step

ACHIEVED = 0.5
"""The share of every published limit that is assumed to be reached."""

CHIPS_COUNTED = (1, 8, 64, 512)


class Network(NamedTuple):
    """A network on the images that it is for.

    Attributes:
        shape: of the `CoDANet`.
        image_size: in pixels.
        batch: images a chip.
    """

    shape: dict[str, Any]
    image_size: int
    batch: int


NETWORKS = {
    "S-CoDA, CIFAR-10": Network(S_CODA, 32, 64),
    # An assumption: the paper's M-CoDA is not published. S-CoDA with Tiny-ImageNet's 200 classes.
    "M-CoDA (assumed), Tiny-ImageNet": Network(S_CODA | {"channels": (*S_CODA["channels"][:-1], 200)}, 64, 32),
    "L-CoDA, ImageNet-100": Network(L_CODA, 240, 16),
}


class Chip(NamedTuple):
    """Published limits of a chip and of what connects it with others.

    Attributes:
        flops: operations a second, of products as JAX makes them from float32 arrays.
        memory: bytes a second.
        group: the chips that the fast network connects.
        inside: bytes a second that a chip sends to others of its group.
        outside: bytes a second that it sends to other groups.
        cores: of the host, for each chip; None where that is unknown.
    """

    flops: float
    memory: float
    group: int
    inside: float
    outside: float
    cores: float | None


CHIPS = {
    # TF32 without sparsity; half of NVLink's 900 GB/s goes either way; a DGX has eight GPUs, eight ports of 400 Gb/s
    # and 112 cores. nvidia.com/en-us/data-center/h100; docs.nvidia.com/dgx-basepod, "Core Components".
    "H100 SXM": Chip(494.7e12, 3.35e12, 8, 450e9, 50e9, 112 / 8),
    # bfloat16, to which TPUs round the factors of products; the all-reduce bandwidth of a pod over its chips. The
    # number of the host's cores is not in the document. cloud.google.com/tpu/docs/v4.
    "TPU v4": Chip(275e12, 1.2e12, 4096, 1.1e15 / 4096, math.inf, None),
    # The same; the data-centre network of a pod over its chips; 224 virtual cores for eight chips.
    # cloud.google.com/tpu/docs/v5e.
    "TPU v5e": Chip(197e12, 819e9, 256, 51.2e12 / 256, 6.4e12 / 8 / 256, 224 / 8),
}


class Step(NamedTuple):
    """What a training step with Adam costs a chip: so much whatever the batch, and so much an image.

    Attributes:
        flops, bytes: operations and memory traffic, each (of a step, of an image).
        gradient_bytes: of all gradients in float32.
        temporary_bytes: of memory, for the network's batch, beside parameters and optimiser state.
    """

    flops: tuple[float, float]
    bytes: tuple[float, float]
    gradient_bytes: int
    temporary_bytes: int


def count(network: Network) -> Step:
    """The cost of a step, which is compiled for one, for two, and for the batch's images, and not run."""
    model = CoDANet(**network.shape)
    one, two = (_compiled(model, network.image_size, batch).cost_analysis() for batch in (1, 2))
    memory = _compiled(model, network.image_size, network.batch).memory_analysis()
    flops, traffic = (
        (2 * one[key] - two[key], two[key] - one[key])  # A line through both.
        for key in ("flops", "bytes accessed")
    )
    return Step(flops, traffic, 4 * _parameters(model, network.image_size), memory.temp_size_in_bytes)


def _compiled(model: CoDANet, image_size: int, batch: int) -> jax.stages.Compiled:
    limits = chunks._MOST_VALUES
    # Chunks as on accelerators: XLA would count the body of a loop over chunks once.
    chunks._MOST_VALUES = limits | {"cpu": limits["default"]}
    try:
        images = jax.ShapeDtypeStruct((1, batch, image_size, image_size, 3), jnp.float32)
        labels = jax.ShapeDtypeStruct((1, batch), jnp.int32)
        step = mapped_train_step(model, ours.ADAM, Training())
        return step.lower(_state(model, image_size), {"image": images, "label": labels}).compile()
    finally:
        chunks._MOST_VALUES = limits


def _state(model: CoDANet, image_size: int) -> training_state.TrainState:
    return jax.eval_shape(lambda: training_state.create(model, ours.ADAM, (image_size, image_size), seed=0))


def _parameters(model: CoDANet, image_size: int) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(_state(model, image_size).params))


def computation_seconds(step: Step, chip: Chip, batch: int) -> tuple[float, float]:
    """Seconds by the operations and by the memory traffic; the longer of both counts."""
    return (
        (step.flops[0] + batch * step.flops[1]) / (ACHIEVED * chip.flops),
        (step.bytes[0] + batch * step.bytes[1]) / (ACHIEVED * chip.memory),
    )


def all_reduce_seconds(gradient_bytes: int, chip: Chip, chips: int) -> float:
    """Seconds of a ring all-reduce: in each group, and between groups, of which every chip then has its own share.

    A ring of n sends 2(n-1)/n of the bytes from each. The time that a message takes whatever its size is left out.
    """
    inside = min(chips, chip.group)
    groups = chips // inside
    return 2 * (inside - 1) / inside * gradient_bytes / (ACHIEVED * chip.inside) + 2 * (
        groups - 1
    ) / groups * gradient_bytes / inside / (ACHIEVED * chip.outside)


def least_batch(step: Step, chip: Chip, chips: int, efficiency: float) -> int:
    """Images a chip from which on computation takes that share of a step."""
    wanted = efficiency / (1 - efficiency) * all_reduce_seconds(step.gradient_bytes, chip, chips)
    return next(batch for batch in range(1, 10**6) if max(computation_seconds(step, chip, batch)) >= wanted)


def main(arguments: Sequence[str] | None = None) -> None:
    """Count, measure, print and write.

    Args:
        arguments: of the command line; None for those that the program was started with.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step_time", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), metavar="DIR", help="runs/benchmarks")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    rates = {}
    if (options.out / "input_pipeline.json").exists():
        measured = json.loads((options.out / "input_pipeline.json").read_text())["images_per_second"]
        rates = {row["image_size"]: row["one_core"] for row in measured}

    steps = {name: count(network) for name, network in NETWORKS.items()}
    print_table(
        "A training step with Adam, as XLA counts it",
        ["", "parameters", "GFLOP a step", "and an image", "GB a step", "and an image", "batch", "temporary GB"],
        [
            [name, step.gradient_bytes // 4, *(value / 1e9 for value in (*step.flops, *step.bytes))]
            + [NETWORKS[name].batch, step.temporary_bytes / 1e9]
            for name, step in steps.items()
        ],
    )
    results: dict[str, Any] = {
        "machine": machine.describe(),
        "achieved": ACHIEVED,
        "steps": {name: step._asdict() for name, step in steps.items()},
        "check": _check(steps["S-CoDA, CIFAR-10"]),
        "chips": [],
    }
    for name, step in steps.items():
        for chip_name, chip in CHIPS.items():
            results["chips"].append({"network": name, "chip": chip_name, **_predict(NETWORKS[name], step, chip, rates)})
    _print_predictions(results["chips"])
    (options.out / "step_time.json").write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    print(f"\nwrote {options.out / 'step_time.json'}")


def _predict(network: Network, step: Step, chip: Chip, rates: dict[int, float]) -> dict[str, Any]:
    operations, memory = computation_seconds(step, chip, network.batch)
    computation = max(operations, memory)
    reductions = [all_reduce_seconds(step.gradient_bytes, chip, chips) for chips in CHIPS_COUNTED]
    rate = rates.get(network.image_size)
    return {
        "batch": network.batch,
        "operations_seconds": operations,
        "memory_seconds": memory,
        "images_per_second": network.batch / computation,
        "cores_for_input": rate and network.batch / computation / rate,
        "cores": chip.cores,
        "all_reduce_seconds": dict(zip(CHIPS_COUNTED, reductions, strict=True)),
        "efficiency": [computation / (computation + seconds) for seconds in reductions],
        "least_batch": least_batch(step, chip, CHIPS_COUNTED[-1], efficiency=0.9),
    }


def _print_predictions(rows: Sequence[dict[str, Any]]) -> None:
    print_table(
        f"One chip, which reaches {ACHIEVED:.0%} of its published limits",
        ["", "", "batch", "operations ms", "memory ms", "images/s", "cores for input", "of its host"],
        [
            [row["network"], row["chip"], row["batch"]]
            + [1000 * row["operations_seconds"], 1000 * row["memory_seconds"], row["images_per_second"]]
            + [row["cores_for_input"], row["cores"]]
            for row in rows
        ],
    )
    print_table(
        "Several chips: all-reduce, ms, and the share of a step that is computation",
        ["", ""]
        + [f"{chips} chips" for chips in CHIPS_COUNTED[1:]]
        + [f"share, {chips}" for chips in CHIPS_COUNTED[1:]]
        + [f"batch a chip for 90% of {CHIPS_COUNTED[-1]}"],
        [
            [row["network"], row["chip"]]
            + [1000 * row["all_reduce_seconds"][chips] for chips in CHIPS_COUNTED[1:]]
            + [f"{share:.1%}" for share in row["efficiency"][1:]]
            + [row["least_batch"]]
            for row in rows
        ],
    )


def _check(step: Step) -> dict[str, float]:
    """S-CoDA's training step on this machine: the time that the machine's limits leave, and the time that it takes."""
    batch = 16
    with workers(["ours"]) as (worker,):
        limits = machine_limits(worker, size=2048, mebibytes=512, calls=4)
        (measured,) = medians([lambda: worker.seconds("train", batch)], rounds=5)
    operations = (step.flops[0] + batch * step.flops[1]) / limits["matmul_flops_per_second"]
    memory = (step.bytes[0] + batch * step.bytes[1]) / limits["stream_bytes_per_second"]
    print_table(
        f"Check on this machine: S-CoDA's training step, {batch} images, ms",
        ["by operations", "by memory", "measured", "share of the limit reached"],
        [[operations * 1000, memory * 1000, measured * 1000, max(operations, memory) / measured]],
    )
    return {**limits, "batch": batch, "operations_seconds": operations, "memory_seconds": memory, "measured": measured}


if __name__ == "__main__":
    main()
