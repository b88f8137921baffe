"""What is for CoDA-Nets only says so in one line."""

import jax.numpy as jnp
import optax
import pytest

from coda_jax import InputError, data, load, save_pretrained
from coda_jax.contributions import contributions
from coda_jax.interop.pretrained import load_explainable
from coda_jax.networks.config_file import save_config
from coda_jax.networks.resnet import ResNet
from coda_jax.report import write_report
from coda_jax.training import state
from coda_jax.training.checkpoints import Checkpoints


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The directory of a run of a residual network that has learnt nothing."""
    workdir = tmp_path_factory.mktemp("resnet")
    dataset = data.load("digits")
    model = {"architecture": "resnet", "depth": 8, "num_classes": 10}
    save_config(workdir, {"dataset": "digits", "model": model}, dataset.info)
    Checkpoints(workdir / "checkpoints").save(state.create(ResNet(8, 10), optax.sgd(1.0), (8, 8), seed=0))
    return workdir, dataset


def test_refused(run, tmp_path):
    workdir, dataset = run
    model, variables, _ = load(workdir)
    assert sorted(variables) == ["batch_stats", "params"]
    with pytest.raises(InputError, match="is a run of a ResNet: .* are for CoDA-Nets, hybrids and B-cos networks$"):
        load_explainable(workdir)
    with pytest.raises(InputError, match="is a run of a ResNet: the report is for CoDA-Nets and B-cos networks$"):
        write_report(workdir, dataset)
    with pytest.raises(InputError, match="^model must be a CoDANet or BcosResNet, not ResNet$"):
        save_pretrained(tmp_path / "pretrained", model, variables)
    with pytest.raises(InputError, match="^model must be a CoDANet or BcosResNet, not ResNet$"):
        contributions(model, variables, jnp.zeros((1, 8, 8, 6)))
    assert not list(tmp_path.iterdir()) and not (workdir / "report.html").exists()
