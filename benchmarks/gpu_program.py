"""Compile S-CoDA for an H100 without having one, and say what the programs' kernels read and write.

python -m benchmarks.gpu_program [--batch_size=128] [--dtype=bfloat16]

It needs JAX for CUDA (`pip install '.[cuda]'`), but no GPU: XLA compiles for the description of one. The kernels, their
number and the bytes between them are those of the real program, but for what XLA chooses by timing on the device. Each
kernel takes at least the time of its launch and of its bytes at the memory's full rate; the products take their
operations at the rate of a large product. Nothing is measured. A program takes up to two minutes to compile.

"train" is one step of Adam. "steps" is the loop in which `benchmarks.accelerator` trains, with Muon, on batches that
the device draws; one of its steps is counted. XLA makes CUDA graphs of what it can. The host launches each graph and
each kernel outside of one, and waits in every round of a loop whose number of rounds is not known beforehand.
"""

import argparse
import math
import re
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp

from benchmarks import cost
from benchmarks.timing import print_table
from coda_jax import CoDANet, add_inverse
from coda_jax.networks.coda_net import S_CODA
from coda_jax.training.configuration import Training
from coda_jax.training.state import create
from coda_jax.training.step import mapped_train_step, mapped_train_steps

# NVIDIA's published limits of an H100 SXM, as XLA wants to be told them.
H100 = """
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 7 }
runtime_version { major: 13 minor: 0 }
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  registers_per_block_limit: 65536 registers_per_core_limit: 65536
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 device_memory_size: 84929347584
}
"""
LAUNCH = 2e-6
"""Seconds between two kernels' beginnings, at least, without CUDA graphs: an assumption."""
MEMORY = 3.35e12
"""Bytes a second, published."""
PRODUCTS = {"bfloat16": 798e12, "float32": 390e12}
"""Operations a second of a large product, bfloat16 and TensorFloat-32: assumptions."""

NUM_EXAMPLES = 50_000

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8}
_SHAPE = re.compile(rf"\b({'|'.join(_BYTES)})\[([\d,]*)\]")
_COMPUTATION = re.compile(r"(ENTRY )?(%[\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s*(?:ROOT )?(%[\w.\-]+) = (.*?) ([a-z][a-z\-]*)\((.*?)\)(?:,|$)")
_BODY = re.compile(r"body=(%[\w.\-]+)")
_ROUNDS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_NO_KERNEL = {"parameter", "bitcast", "get-tuple-element", "tuple", "constant", "async-done", "copy-done"}


class Kernel(NamedTuple):
    """One kernel of a compiled program: its name, and the bytes that it reads and writes, each array once."""

    name: str
    bytes: int


def kernels(program: str) -> list[Kernel]:
    """The kernels of a compiled program, in XLA's text form, as often as they run.

    A loop whose number of rounds is not known counts as one round. Of an array of as many parts as a loop has rounds,
    each round reads or writes one.
    """
    computations: dict[str, list[str]] = {}
    main = ""
    for line in program.splitlines():
        header = _COMPUTATION.match(line)
        if header:
            computations[header[2]] = []
            main = header[2] if header[1] else main
        elif computations:
            computations[next(reversed(computations))].append(line)

    def kernels_of(computation: str, rounds: int) -> list[Kernel]:
        sizes: dict[str, int] = {}
        found = []
        for line in computations[computation]:
            instruction = _INSTRUCTION.match(line)
            if instruction is None:
                continue
            name, shapes, operation, operands = instruction.groups()
            sizes[name] = sum(_bytes(*shape, rounds) for shape in _SHAPE.findall(shapes))
            if operation == "while":
                known = _ROUNDS.search(line)
                inner = int(known[1]) if known else 1
                found += kernels_of(_BODY.search(line)[1], inner) * inner
            elif operation not in _NO_KERNEL:
                read = sum(sizes.get(operand, 0) for operand in set(re.findall(r"%[\w.\-]+", operands)))
                found.append(Kernel(name, read + sizes[name]))
        return found

    return kernels_of(main, rounds=1)


def _bytes(dtype: str, shape: str, rounds: int) -> int:
    sizes = [int(size) for size in shape.split(",") if size]
    return _BYTES[dtype] * math.prod(sizes[1:] if rounds > 1 and sizes[:1] == [rounds] else sizes)


def host_launches(thunks: str) -> int:
    """How many launches the host makes, from XLA's list of a program's thunks; a loop counts as one round.

    They are those of CUDA graphs, and of kernels and copies outside of one.
    """
    launches, graph = 0, math.inf
    for line in thunks.splitlines():
        thunk = re.match(r"( *)\d+: k(\w+)", line)
        if thunk and len(thunk[1]) <= graph:  # What is deeper is part of the last graph.
            graph = len(thunk[1]) if thunk[2] == "CommandBuffer" else math.inf
            launches += thunk[2] != "While"
    return launches


def compiled(task: str, model: CoDANet, batch_size: int, image_size: int) -> tuple[Any, str]:
    """The program of "forward", "train" or "steps" for an H100, and the list of its thunks."""
    from jax.experimental import topologies

    devices = topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1").devices
    of_optimizer = "muon" if task == "steps" else "adam"
    training = Training(batch_size=batch_size, optimizer=of_optimizer, crop_padding=4, on_device=True)
    optimizer = training.make_optimizer(NUM_EXAMPLES)
    images = jax.ShapeDtypeStruct((1, batch_size, image_size, image_size, 3), jnp.float32)
    state = jax.eval_shape(lambda: create(model, optimizer, (image_size, image_size), seed=0))
    with mock.patch.object(jax, "pmap", partial(jax.pmap, devices=devices)):
        if task == "forward":
            forward = jax.pmap(
                lambda params, images: model.apply({"params": params}, add_inverse(images)), in_axes=(None, 0)
            )
            lowered = forward.lower(state.params, images)
        elif task == "train":
            labels = jax.ShapeDtypeStruct((1, batch_size), jnp.int32)
            lowered = mapped_train_step(model, optimizer, training).lower(state, {"image": images, "label": labels})
        else:
            examples = {
                "image": jax.ShapeDtypeStruct((NUM_EXAMPLES, image_size, image_size, 3), jnp.uint8),
                "label": jax.ShapeDtypeStruct((NUM_EXAMPLES,), jnp.int32),
            }
            key = jax.eval_shape(lambda: jax.random.key(0))
            count, device = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((1,), jnp.int32)
            lowered = mapped_train_steps(model, optimizer, training).lower(state, examples, key, count, device)
    with tempfile.TemporaryDirectory() as directory:
        program = lowered.compile(compiler_options={"xla_dump_to": directory, "xla_dump_hlo_as_text": True})
        (thunks,) = Path(directory).glob("*.thunk_sequence_after_thunk_passes.txt")
        return program, thunks.read_text()


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile and print.

    Args:
        arguments: of the command line; None for those that the program was started with.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_program", description=__doc__.splitlines()[0])
    parser.add_argument("--batch_size", type=int, default=128, help="128")
    parser.add_argument("--dtype", choices=list(PRODUCTS), default="bfloat16", help="bfloat16")
    options = parser.parse_args(arguments)
    jax.config.update("jax_platforms", "cpu")  # Where there is a GPU, it is not asked.
    jax.devices()  # JAX looks for its compilers when it looks for devices.
    model, image_size, rows = CoDANet(**S_CODA, temperature=1000.0, dtype=jnp.dtype(options.dtype)), 32, []
    for task in ("forward", "train", "steps"):
        program, thunks = compiled(task, model, options.batch_size, image_size)
        text = program.as_text()
        found, waits = kernels(text), sum(" while(" in line and not _ROUNDS.search(line) for line in text.splitlines())
        moved = sum(kernel.bytes for kernel in found)
        operations = cost.flops_by_task(model, image_size, options.batch_size)[
            "forward" if task == "forward" else "train"
        ]
        least = sum(max(LAUNCH, kernel.bytes / MEMORY) for kernel in found)
        temporary = program.memory_analysis().temp_size_in_bytes
        rows.append(
            [task, len(found), host_launches(thunks), waits, moved / 1e9, temporary / 1e6, len(found) * LAUNCH * 1e3]
            + [moved / MEMORY * 1e3, operations / PRODUCTS[options.dtype] * 1e3, least * 1e3]
        )
    print_table(
        f"S-CoDA, batches of {options.batch_size}, {options.dtype}, compiled for an H100",
        ["", "kernels", "host launches", "host waits", "GB moved", "MB temporary"]
        + ["launches, ms", "bytes, ms", "products, ms", "at least, ms"],
        rows,
    )


if __name__ == "__main__":
    main()
