import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from coda_jax.alignment import chunks
from coda_jax.alignment.chunks import examples_at_once, map_in_chunks


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    monkeypatch.setattr(chunks, "_MOST_VALUES", {"cpu": 12, "default": 24})


@pytest.mark.parametrize(
    ("examples", "values", "expected"),
    [(8, 1, 8), (8, 2, 4), (8, 3, 4), (8, 4, 2), (8, 100, 1), (7, 1, 7), (7, 2, 1), (1, 100, 1)],
)
def test_largest_divisor_that_fits(examples, values, expected):
    assert examples_at_once(examples, values, 12) == expected


@pytest.mark.parametrize("values", [1, 4, 100])  # All six at once, three at a time, one by one.
def test_chunks_change_neither_values_nor_gradients(values):
    batch = {"x": jnp.arange(12.0).reshape(6, 2), "y": jnp.arange(6.0)}
    seen = []

    def function(batch):
        seen.append(batch["y"].shape)
        return {"sum": weight * batch["x"].sum(1) + batch["y"] ** 2}

    weight = 3.0
    result = map_in_chunks(function, batch, values)["sum"]
    np.testing.assert_array_equal(result, 3 * batch["x"].sum(1) + batch["y"] ** 2)
    assert seen[0] == ({1: 6, 4: 3, 100: 1}[values],)

    def total(weight, batch):
        return map_in_chunks(lambda batch: weight * batch["x"].sum(1) + batch["y"] ** 2, batch, values).sum()

    by_weight, by_batch = jax.grad(total, argnums=(0, 1))(3.0, batch)
    assert by_weight == 66  # 0 + 1 + ... + 11
    np.testing.assert_array_equal(by_batch["x"], np.full((6, 2), 3))
    np.testing.assert_array_equal(by_batch["y"], 2 * np.arange(6))


def test_number_that_is_left_open():
    (examples,) = jax.export.symbolic_shape("N")
    assert examples_at_once(examples, 24, 12) is examples  # An accelerator's limit, wherever the program is made.
    assert examples_at_once(examples, 25, 12) == 1


@pytest.mark.parametrize(("platform", "count"), [("cpu", 3), ("cuda", 6), ("tpu", 6)])
def test_number_follows_the_platform_that_is_compiled_for(platform, count):
    def total(batch):
        return map_in_chunks(lambda batch: jnp.sin(batch[:, None] * jnp.arange(4.0)).sum(1), batch, 4).sum()

    derived = (total, "sine", ""), (jax.grad(total), "cosine", ""), (jax.vmap(jax.grad(total)), "cosine", "5x")
    for function, operation, axis in derived:
        batch = jax.ShapeDtypeStruct((5, 6) if axis else (6,), jnp.float32)
        program = jax.jit(function).trace(batch).lower(lowering_platforms=(platform,)).as_text()
        assert set(re.findall(rf"stablehlo.{operation} .*<(.*)xf32>", program)) == {f"{axis}{count}x4"}
        assert ("stablehlo.while" in program) == (count < 6)


def test_intermediate_results_are_not_kept_for_the_gradient():
    def wide(batch):
        return jnp.sin(batch[:, None] * jnp.arange(1000.0)).sum(1)

    _, pull_back = jax.vjp(lambda batch: map_in_chunks(wide, batch, 1000), jnp.arange(4.0))
    assert max(array.size for array in jax.tree.leaves(pull_back)) < 4000
