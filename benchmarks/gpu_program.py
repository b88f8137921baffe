"""Compile S-CoDA for an H100 without having one, and say what the program's kernels read and write.

python -m benchmarks.gpu_program [--batch_size=128] [--dtype=bfloat16]

It needs JAX for CUDA (`pip install '.[cuda]'`), but no GPU: XLA compiles for the description of one. The kernels, their
number and the bytes between them are those of the real program, but for what XLA chooses by timing on the device. Each
kernel takes at least the time of its launch and of its bytes at the memory's full rate; the products take their
operations at the rate of a large product. Nothing is measured. A program takes up to two minutes to compile.
"""

import argparse
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import cost
from benchmarks.timing import print_table
from coda_jax import CoDANet, add_inverse, chunks
from coda_jax.networks.coda_net import S_CODA
from coda_jax.training.losses import binary_cross_entropy

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

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8}
_SHAPE = re.compile(rf"\b({'|'.join(_BYTES)})\[([\d,]*)\]")
_INSTRUCTION = re.compile(r"\s*(?:ROOT )?(%[\w.\-]+) = (.*?) ([a-z][a-z\-]*)\((.*?)\)(?:,|$)")
_NO_KERNEL = {"parameter", "bitcast", "get-tuple-element", "tuple", "constant"}


class Kernel(NamedTuple):
    """One kernel of a compiled program: its name, and the bytes that it reads and writes, each array once."""

    name: str
    bytes: int


def kernels(program: str) -> list[Kernel]:
    """The kernels of the main computation of a compiled program, in XLA's text form; a loop counts once."""
    sizes: dict[str, int] = {}
    found = []
    for line in program[program.index("\nENTRY") :].splitlines()[2:]:
        instruction = _INSTRUCTION.match(line)
        if instruction is None:
            continue
        name, shape, operation, operands = instruction.groups()
        sizes[name] = sum(
            _BYTES[dtype] * int(np.prod([int(size) for size in shape.split(",") if size]))
            for dtype, shape in _SHAPE.findall(shape)
        )
        if operation not in _NO_KERNEL:
            read = sum(sizes.get(operand, 0) for operand in set(re.findall(r"%[\w.\-]+", operands)))
            found.append(Kernel(name, read + sizes[name]))
    return found


def compiled(task: str, model: CoDANet, batch_size: int, image_size: int) -> Any:
    """The program of "forward" or "train", a step of Adam, for an H100."""
    from jax.experimental import topologies

    topology = topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1")
    mesh = topologies.make_mesh(topology, (1,), ("device",))
    there = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    images = jax.ShapeDtypeStruct((batch_size, image_size, image_size, 3), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    params = jax.eval_shape(model.init, jax.random.key(0), jax.eval_shape(add_inverse, images))["params"]
    optimizer = optax.adam(2.5e-4)

    def loss(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        return jnp.mean(binary_cross_entropy(model.apply({"params": params}, add_inverse(images)), labels))

    def train(params: Any, state: Any, images: jax.Array, labels: jax.Array) -> Any:
        updates, state = optimizer.update(jax.grad(loss)(params, images, labels), state, params)
        return optax.apply_updates(params, updates), state

    if task == "train":
        program = jax.jit(train, donate_argnums=(0, 1))
        arguments: Any = (params, jax.eval_shape(optimizer.init, params), images, labels)
    else:
        program = jax.jit(lambda params, images: model.apply({"params": params}, add_inverse(images)))
        arguments = (params, images)
    arguments = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=there), arguments)
    return program.trace(*arguments).lower(lowering_platforms=("cuda",)).compile()


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
    chunks.examples_at_once = lambda examples, *_: examples  # As for up to 128 images; a loop would count once.
    model, image_size, rows = CoDANet(**S_CODA, temperature=1000.0, dtype=jnp.dtype(options.dtype)), 32, []
    for task in ("forward", "train"):
        program = compiled(task, model, options.batch_size, image_size)
        found = kernels(program.as_text())
        moved = sum(kernel.bytes for kernel in found)
        operations = cost.flops_by_task(model, image_size, options.batch_size)[task]
        least = sum(max(LAUNCH, kernel.bytes / MEMORY) for kernel in found)
        temporary = program.memory_analysis().temp_size_in_bytes
        rows.append(
            [task, len(found), moved / 1e9, temporary / 1e6, len(found) * LAUNCH * 1e3, moved / MEMORY * 1e3]
            + [operations / PRODUCTS[options.dtype] * 1e3, least * 1e3]
        )
    print_table(
        f"S-CoDA, batches of {options.batch_size}, {options.dtype}, compiled for an H100",
        ["", "kernels", "GB moved", "MB temporary", "launches, ms", "bytes, ms", "products, ms", "at least, ms"],
        rows,
    )


if __name__ == "__main__":
    main()
