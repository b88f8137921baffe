import jax
import numpy as np
import pytest

from coda_jax.training import state
from tests.training.problem import MODEL, OPTIMIZER

pytestmark = pytest.mark.devices


def test_first_state():
    first = state.create(MODEL, OPTIMIZER, (4, 4), seed=1)
    assert int(first.step) == 0
    assert first.params["layers_0"]["A"].shape == (3, 3, 6, 6, 4)
    assert all(len(leaf.sharding.device_set) == jax.device_count() for leaf in jax.tree.leaves(first))
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(first))


def test_seed_determines_the_parameters():
    one, same, other = (state.create(MODEL, OPTIMIZER, (4, 4), seed).params for seed in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, one, same)
    assert not np.array_equal(one["layers_0"]["A"], other["layers_0"]["A"])
