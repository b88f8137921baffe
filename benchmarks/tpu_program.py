"""Compile S-CoDA for a TPU without having one, and say what the padding of its arrays costs.

python -m benchmarks.tpu_program [--batch_size=128] [--dtype=bfloat16]

It needs JAX for TPUs (`pip install '.[tpu]'`), but no TPU: XLA compiles for the description of one. A TPU's arrays lie
in tiles, 128 values wide: an axis of 16 channels that lies along them takes the room and the time of 128. What the
kernels read from the TPU's memory and write to it is added up with and without this padding, each array once a kernel;
what XLA keeps in the core's own memory is left out. Nothing is measured. The programs take ten minutes to compile.
"""

import argparse
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from benchmarks.timing import print_table
from coda_jax import CoDANet, add_inverse
from coda_jax.networks.coda_net import S_CODA
from coda_jax.training.losses import binary_cross_entropy

MEMORY = 819e9
"""Bytes a second of a TPU v5e, published."""

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f32": 4, "s32": 4, "u32": 4}
_ARRAY = re.compile(rf"\b({'|'.join(_BYTES)})\[([\d,]*)\]\{{([\d,]*):?(?:T\(([\d,]+)\))?([^}}]*)\}}")
_INSTRUCTION = re.compile(r"\s*(?:ROOT )?(%[\w.\-]+) = (.*?) ([a-z][a-z\-]*)\((.*?)\)(?:,|$)")
_NO_KERNEL = {"parameter", "bitcast", "get-tuple-element", "tuple", "constant", "copy-done", "slice-done", "async-done"}


class Traffic(NamedTuple):
    """Bytes to and from a TPU's memory: of the arrays' values, and of the tiles that hold them."""

    values: int
    tiles: int


def traffic(program: str) -> Traffic:
    """The traffic of the main computation of a compiled program, in XLA's text form; a loop counts once."""
    sizes: dict[str, Traffic] = {}
    found = Traffic(0, 0)
    for line in program[program.index("\nENTRY") :].splitlines()[2:]:
        instruction = _INSTRUCTION.match(line)
        if instruction is None:
            continue
        name, shape, operation, operands = instruction.groups()
        sizes[name] = _sum([_size(*array) for array in _ARRAY.findall(shape)])
        if operation not in _NO_KERNEL:
            # What is copied while other kernels run is named with its source and its copy.
            written = [] if operation.endswith("-start") else [sizes[name]]
            read = [sizes.get(operand, Traffic(0, 0)) for operand in set(re.findall(r"%[\w.\-]+", operands))]
            found = _sum([found, *written, *read])
    return found


def _size(dtype: str, shape: str, order: str, tile: str, rest: str) -> Traffic:
    """An array's size: `order` names its axes from the last one in memory on; S(n) is a memory inside the core."""
    if "S(" in rest:
        return Traffic(0, 0)
    axes, order, tile = ([int(number) for number in text.split(",") if number] for text in (shape, order, tile))
    padded = [axes[axis] for axis in order]
    for place, side in zip(range(len(padded)), reversed(tile), strict=False):
        padded[place] = math.ceil(padded[place] / side) * side
    return Traffic(_BYTES[dtype] * math.prod(axes), _BYTES[dtype] * math.prod(padded))


def _sum(parts: Sequence[Traffic]) -> Traffic:
    return Traffic(*(sum(column) for column in zip((0, 0), *parts, strict=True)))


def compiled(task: str, model: CoDANet, batch_size: int, image_size: int) -> Any:
    """The program of "forward" or "train", a step of Adam, for one core of a TPU v5e."""
    from jax.experimental import topologies

    topology = topologies.get_topology_desc("v5e:2x2", platform="tpu")
    there = jax.sharding.SingleDeviceSharding(topology.devices[0])
    images = jax.ShapeDtypeStruct((batch_size, image_size, image_size, 3), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    params = jax.eval_shape(model.init, jax.random.key(0), jax.eval_shape(add_inverse, images))["params"]
    optimizer = optax.adam(2.5e-4)

    def forward(params: Any, images: jax.Array) -> jax.Array:
        return model.apply({"params": params}, add_inverse(images))

    def train(params: Any, images: jax.Array, state: Any, labels: jax.Array) -> Any:
        gradients = jax.grad(lambda params: jnp.mean(binary_cross_entropy(forward(params, images), labels)))(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    if task == "train":
        program = jax.jit(train, donate_argnums=(0, 2))
        arguments: Any = (params, images, jax.eval_shape(optimizer.init, params), labels)
    else:
        program, arguments = jax.jit(forward), (params, images)
    arguments = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=there), arguments)
    return program.trace(*arguments).lower(lowering_platforms=("tpu",)).compile()


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile and print.

    Args:
        arguments: of the command line; None for those that the program was started with.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tpu_program", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--batch_size", type=int, default=128, help="128; more are taken in chunks, one of which would count"
    )
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16", help="bfloat16")
    options = parser.parse_args(arguments)
    jax.config.update("jax_platforms", "cpu")  # Where there is a TPU, it is not asked.
    jax.devices()  # JAX looks for its compilers when it looks for devices.
    model, rows = CoDANet(**S_CODA, temperature=1000.0, dtype=jnp.dtype(options.dtype)), []
    for task in ("forward", "train"):
        program = compiled(task, model, options.batch_size, image_size=32)
        values, tiles = traffic(program.as_text())
        temporary = program.memory_analysis().temp_size_in_bytes
        rows.append([task, values / 1e9, tiles / 1e9, temporary / 1e6, tiles / MEMORY * 1e3])
    print_table(
        f"S-CoDA, batches of {options.batch_size}, {options.dtype}, compiled for a TPU v5e",
        ["", "GB of values", "GB of tiles", "MB temporary", "at least, ms"],
        rows,
    )


if __name__ == "__main__":
    main()
