import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from coda_jax.networks.bcos_resnet import BcosResNet

pytest.importorskip("torch", reason="the peer needs PyTorch")

from benchmarks import bcos  # noqa: E402

SMALL = {"blocks": (1, 2), "num_classes": 11, "width": 4}


@pytest.mark.parametrize("changes", [{}, {"small_images": True, "bottleneck_width": 2}], ids=["basic", "bottleneck"])
def test_peer_and_ours_agree(changes):
    # Rectangular images, so that no two axes can be taken for each other.
    images = np.random.default_rng(0).random((2, 18, 22, 3), np.float32)
    for task, by_program in bcos.programs(BcosResNet(**SMALL, **changes), images).items():
        expected = by_program["peer"]()
        assert expected.shape == {"forward": (2, 11), "one": (2, 1, 18, 22, 6), "ten": (2, 10, 18, 22, 6)}[task]
        # float32, over some ten layers of sums of up to 144 products.
        np.testing.assert_allclose(by_program["ours"](), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_it_runs(tmp_path):
    program = [sys.executable, "-m", "benchmarks.bcos", "--quick", f"--out={tmp_path}"]
    done = subprocess.run(program, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0 and "peer / ours" in done.stdout, done.stderr
    assert set(json.loads((tmp_path / "bcos.json").read_text())["seconds"]) == {"forward", "one", "ten"}
