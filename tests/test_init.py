import subprocess
import sys
from pathlib import Path

# What only reading data, training or drawing needs, and what takes long to load.
HEAVY = {
    "av",
    "cv2",
    "grain",
    "matplotlib",
    "orbax",
    "sklearn",
    "tensorboardX",
    "tensorflow",
    "tensorflow_datasets",
    "torch",
}


def test_import_loads_nothing_heavy():
    program = "import sys, coda_jax; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    loaded = set(done.stdout.split())
    assert "coda_jax.networks.coda_net" in loaded
    assert loaded & HEAVY == set()
