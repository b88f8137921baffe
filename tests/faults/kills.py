"""Kill a run by SIGKILL at random moments, saving included, and compare what becomes of it with an undisturbed one.

    python -m tests.faults.kills

Cost: about ten minutes on two CPU cores. Prints where the kills fell, and fails unless every restart goes on and the
last parameters are, to the bit, those of a run that was never killed.
"""

import random
import re
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import jax
import numpy as np

from coda_jax import load
from tests.experiments.processes import run, start

KILLS = 50
# A checkpoint is due at every other moment, so that many kills fall into one.
ARGUMENTS = ("--config.num_steps=400", "--config.log_every=20", "--config.checkpoint_every=5")
SEED = 0


def main() -> None:
    """Run, kill, go on, compare."""
    rng = random.Random(SEED)
    directory = Path(tempfile.mkdtemp(prefix="kills"))
    status, _, err = run(f"--workdir={directory / 'undisturbed'}", *ARGUMENTS)
    assert status == 0, err
    expected = load(directory / "undisturbed").variables
    workdir, moments, finished = directory / "killed", Counter(), 0
    while moments.total() < KILLS:
        process = start(f"--workdir={workdir}", *ARGUMENTS)
        if rng.random() < 0.8:  # The others are killed while they start.
            while process.poll() is None and "compiled" not in process.stderr.readline():
                pass
        time.sleep(rng.uniform(0, 5))
        unfinished = list(workdir.glob("checkpoints/*tmp*"))
        process.kill()
        _, err = process.communicate()
        if process.returncode == 0:
            finished += 1
            jax.tree.map(np.testing.assert_array_equal, load(workdir).variables, expected)
            shutil.rmtree(workdir)
            continue
        assert process.returncode == -9, err
        saved = [int(path.name) for path in workdir.glob("checkpoints/*") if path.name.isdigit()]
        moments["while it saved" if unfinished else "between steps" if saved else "before the first checkpoint"] += 1
        print(f"kill {moments.total()}: checkpoints {sorted(saved)}", flush=True)
    status, _, err = run(f"--workdir={workdir}", *ARGUMENTS)
    assert status == 0 and not re.search("Traceback|damaged", err), err
    jax.tree.map(np.testing.assert_array_equal, load(workdir).variables, expected)
    print(f"{KILLS} kills, {dict(moments)}; {finished + 1} runs to the end, all with the same bits")
    shutil.rmtree(directory)


if __name__ == "__main__":
    main()
