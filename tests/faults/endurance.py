"""Train for 20,000 steps, and watch memory, open files and throughput.

    python -m tests.faults.endurance

Cost: about five minutes on two CPU cores. Fails unless memory and open files are flat from a tenth of the run on, and
the last tenth is at most 5% slower than the second.
"""

import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.experiments.processes import start

STEPS, EVERY = 20_000, 1000
NETWORK = {"channels": "(4,10)", "ranks": "(4,4)", "kernel_sizes": "(3,1)", "strides": "(2,1)", "paddings": "(1,0)"}


def main() -> None:
    """Train and watch."""
    directory = Path(tempfile.mkdtemp(prefix="endurance"))
    network = [f"--config.model.{name}={value}" for name, value in NETWORK.items()]
    steps = f"--config.num_steps={STEPS}", f"--config.log_every={EVERY}", f"--config.checkpoint_every={EVERY}"
    process = start(f"--workdir={directory}", *network, *steps)
    proc = Path("/proc") / str(process.pid)
    watched = []
    for line in process.stderr:
        if line.startswith("step ") and "test_loss" not in line:
            memory = int((proc / "status").read_text().split("VmRSS:")[1].split()[0]) / 1024
            watched.append((time.monotonic(), memory, len(list((proc / "fd").iterdir()))))
            print(f"{line.split()[1]}: {memory:.0f} MiB, {watched[-1][2]} open files", flush=True)
    assert process.wait() == 0
    times, memory, files = map(np.array, zip(*watched, strict=True))
    rates = EVERY / np.diff(times)
    tenth = len(rates) // 10
    first, last = np.median(rates[: tenth * 3]), np.median(rates[-tenth * 3 :])
    print(f"steps a second: {first:.0f} in the beginning, {last:.0f} at the end")
    print(f"memory: {memory[2]:.0f} MiB after {3 * EVERY} steps, {memory[-1]:.0f} MiB at the end")
    print(f"open files: {files[2]} after {3 * EVERY} steps, {files[-1]} at the end")
    assert last > 0.95 * first and memory[-1] < 1.02 * memory[2] and files[-1] <= files[2]
    shutil.rmtree(directory)


if __name__ == "__main__":
    main()
