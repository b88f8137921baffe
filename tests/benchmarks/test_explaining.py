import numpy as np
import pytest

from benchmarks import explaining
from coda_jax import load


def test_what_is_timed():
    forward, predicted, every = (job() for job in explaining.jobs("digits"))
    bias = load("digits").model.logit_bias
    assert predicted.contributions.shape == (1, 1, 8, 8, 6) and every.contributions.shape == (1, 10, 8, 8, 6)
    # All in float32; the sums of 384 contributions are in another order than the logits.
    np.testing.assert_allclose(every.contributions.sum((2, 3, 4)) + bias, forward, atol=1e-4)
    assert predicted.targets.tolist() == [[forward.argmax()]]


def test_the_table(capsys):
    explaining.main(["digits", "--rounds=1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].split() == ["forward", "predicted", "class", "all", "classes"]
    name, *times = lines[-1].split()
    assert name == "digits" and len(times) == 3 and all(float(time) > 0 for time in times)


def test_no_such_network(capsys):
    with pytest.raises(SystemExit) as left:
        explaining.main(["nothing"])
    assert left.value.code == 1
    assert capsys.readouterr().err.startswith("error: there is no run in nothing, and no network 'nothing' comes with")
