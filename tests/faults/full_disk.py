"""Let the disk of a run fill up, make room, and compare what becomes of it with an undisturbed run.

    python -m tests.faults.full_disk

Needs the right to mount a file system in memory. Cost: about a minute on two CPU cores.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import jax
import numpy as np

from coda_jax import load
from tests.experiments.processes import run, start

ARGUMENTS = ("--config.num_steps=200", "--config.log_every=10", "--config.checkpoint_every=10")
SIZE = "8m"  # Two checkpoints take 3 MB.


def main() -> None:
    """Run, fill the disk, go on, compare."""
    directory = Path(tempfile.mkdtemp(prefix="full"))
    status, _, err = run(f"--workdir={directory / 'undisturbed'}", *ARGUMENTS)
    assert status == 0, err
    disk = directory / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", disk], check=True)
    try:
        workdir, ballast = disk / "run", disk / "ballast"
        process = start(f"--workdir={workdir}", *ARGUMENTS)
        for line in process.stderr:
            if line.startswith("step 50/"):
                break
        subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=4k"], stderr=subprocess.DEVNULL, check=False)
        err = process.communicate()[1]
        last = err.splitlines()[-1]
        assert process.returncode == 1 and last.startswith("error: ") and "Traceback" not in err, err
        print(f"on a full disk: {last}")
        ballast.unlink()
        status, _, err = run(f"--workdir={workdir}", *ARGUMENTS)
        assert status == 0, err
        variables = [load(path).variables for path in (workdir, directory / "undisturbed")]
        jax.tree.map(np.testing.assert_array_equal, *variables)
        print("with room again it went on, and ended with the same bits")
    finally:
        subprocess.run(["umount", disk], check=True)
    shutil.rmtree(directory)


if __name__ == "__main__":
    main()
