"""Kill one of two processes that train together, restart both, and compare with two that were left alone.

    python -m tests.faults.lost_process

Cost: about three minutes on two CPU cores. Prints after how long the survivor ended.
"""

import shutil
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from coda_jax import load
from tests.experiments.processes import run_together, start_together

ARGUMENTS = ("--config.num_steps=120", "--config.log_every=10", "--config.checkpoint_every=25")


def main() -> None:
    """Run, kill either, go on, compare."""
    directory = Path(tempfile.mkdtemp(prefix="lost"))
    finish(directory / "undisturbed")
    for victim in (0, 1):
        workdir = directory / str(victim)
        processes = start_together(2, f"--workdir={workdir}", *ARGUMENTS, devices=2)
        for line in processes[0].stderr:
            if line.startswith("step 60/"):
                break
        killed = time.monotonic()
        processes[victim].kill()
        processes[1 - victim].communicate(timeout=120)
        seconds = time.monotonic() - killed
        print(f"process {victim} killed: the other ended {seconds:.1f} s later, status {processes[1 - victim].poll()}")
        processes[victim].communicate()
        finish(workdir)
        variables = [load(path).variables for path in (workdir, directory / "undisturbed")]
        jax.tree.map(np.testing.assert_array_equal, *variables)
        print("restarted, both ended with the same bits as if nothing had happened", flush=True)
    shutil.rmtree(directory)


def finish(workdir: Path) -> None:
    """Train to the end, or go on to it."""
    for status, _, err in run_together(2, f"--workdir={workdir}", *ARGUMENTS, devices=2):
        assert status == 0, err


if __name__ == "__main__":
    main()
