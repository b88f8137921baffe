import subprocess
import sys
from pathlib import Path


def test_without_pytorch():
    # A module of None is one that cannot be found.
    program = "import sys; sys.modules['torch'] = None; from benchmarks.__main__ import main; main([])"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: the peer needs PyTorch: pip install 'coda_jax[benchmarks]'")
    assert len(done.stderr.splitlines()) == 1
