import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coda_jax import InputError
from coda_jax.errors.checks import (
    as_array,
    check_choice,
    check_images,
    check_key,
    check_number,
    check_pixels,
    check_targets,
    check_whole,
    naming,
)


@pytest.mark.parametrize("array_of", [np.asarray, jnp.asarray, list], ids=["NumPy", "JAX", "list"])
@pytest.mark.parametrize(
    ("targets", "expected"), [([2, 0], [[2], [0]]), ([[2], [0]], [[2], [0]]), ([[2, 1, 1], [0, 0, 2]],) * 2], ids=str
)
def test_class_numbers_are_targets(array_of, targets, expected):
    checked = check_targets(array_of(targets), examples=2, classes=3)
    assert isinstance(checked, jax.Array) and jnp.issubdtype(checked.dtype, jnp.integer)
    np.testing.assert_array_equal(checked, expected)


def test_all_are_every_class_of_every_example():
    np.testing.assert_array_equal(check_targets("all", examples=2, classes=3), [[0, 1, 2], [0, 1, 2]])


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ("every", 'targets must be None, "all", or class numbers, not "every"'),
        ([0, 3], "target 3 is not a class: classes go from 0 to 2"),
        ([[0, 1], [0, -1]], "target -1 is not a class: classes go from 0 to 2"),
        (np.array([0, 1, 2]), "targets must be whole numbers of shape [2] or [2, T], not int64 [3]"),
        (np.zeros((3, 1), np.int32), "targets must be whole numbers of shape [2] or [2, T], not int32 [3, 1]"),
        (np.zeros((2, 0), int), "targets must be whole numbers of shape [2] or [2, T], not int64 [2, 0]"),
        (np.zeros((2, 1, 1), int), "targets must be whole numbers of shape [2] or [2, T], not int64 [2, 1, 1]"),
        (np.int64(1), "targets must be whole numbers of shape [2] or [2, T], not int64 []"),
        (np.array([0.0, 1.0]), "targets must be whole numbers of shape [2] or [2, T], not float64 [2]"),
        (np.array([True, False]), "targets must be whole numbers of shape [2] or [2, T], not bool [2]"),
        (["cat", "dog"], "targets must be an array of real numbers, not a list of <U3"),
        (None, "targets must be an array of real numbers, not a NoneType of object"),
    ],
    ids=str,
)
def test_targets_that_do_not_exist(targets, message):
    with pytest.raises(InputError) as refused:
        check_targets(targets, examples=2, classes=3)
    assert str(refused.value) == message


def test_targets_go_by_the_name_of_the_argument():
    with pytest.raises(InputError, match="^label 5 is not a class: classes go from 0 to 2$"):
        check_targets([5, 0], 2, 3, name="labels")


def test_traced_targets_are_checked_but_for_their_values():
    check = jax.jit(lambda targets: check_targets(targets, examples=2, classes=3))
    np.testing.assert_array_equal(check(np.array([0, 7])), [[0], [7]])
    for wrong, found in ((np.zeros(3, np.int32), r"int32 \[3\]"), (np.zeros(2, np.float32), r"float32 \[2\]")):
        with pytest.raises(InputError, match=f"whole numbers of shape .*, not {found}"):
            check(wrong)
    # Known targets are checked where other values are traced.
    known = jnp.array([0, 7])
    with pytest.raises(InputError, match="target 7 is not a class"):
        jax.jit(lambda x: x + check_targets(known, examples=2, classes=3))(1)


def test_traced_pixels_are_checked_but_for_their_range():
    check = jax.jit(lambda pixels: check_pixels("pixels", pixels, channels=3))
    assert check(np.full((1, 2, 2, 3), 7.0)).max() == 7
    with pytest.raises(
        InputError, match=r"pixels must have shape \[N, H, W, 3\], not \[1, 2, 2, 4\]: stack RGB images"
    ):
        check(np.ones((1, 2, 2, 4)))
    with pytest.raises(InputError, match=r"pixels must lie in \[0, 1\], but range from 0 to 7"):
        check_pixels("pixels", np.full((1, 2, 2, 3), 7.0), channels=3)
    with pytest.raises(InputError, match=r"pixels must lie in \[0, 1\], but range from nan to nan"):
        check_pixels("pixels", np.full((1, 2, 2, 3), np.nan), channels=3)


def test_images():
    assert check_images("x", np.full((1, 2, 2, 5), -7.0)).min() == -7  # Any values.
    for wrong, message in (
        (np.zeros((2, 2, 6)), r"x must be floating-point \[N, H, W, C\], not float64 \[2, 2, 6\]"),
        (np.zeros((1, 2, 2, 6), int), r"not int64 \[1, 2, 2, 6\]"),
        (np.zeros((0, 2, 2, 6)), r"x must not be empty, but have shape \[0, 2, 2, 6\]"),
        (np.zeros((1, 2, 2, 3)), "x must have 6 channels, not 3: encode images with coda_jax.add_inverse"),
    ):
        with pytest.raises(InputError, match=message):
            check_images("x", wrong, encoded=True)


@pytest.mark.parametrize("key", [jax.random.key(0), jax.random.PRNGKey(0)], ids=["typed", "raw"])
def test_keys(key):
    check_key("key", key)
    for wrong in (0, None, key[None], jnp.zeros(2, jnp.int32), jnp.zeros((), jnp.uint32)):
        with pytest.raises(InputError, match=r"key must be a key such as jax.random.key\(0\), not "):
            check_key("key", wrong)


def test_numbers():
    for right in (1, 0.5, np.float32(0.5), np.int64(2), jnp.float32(1.0)):
        check_number("x", right, least=0.5, above=0)
    for wrong, message in (
        (True, "x must be a number, not True"),
        ("1", "x must be a number, not '1'"),
        (jnp.ones(1), "x must be a number, not Array"),
        (math.nan, "x must be finite, not nan"),
        (math.inf, "x must be finite, not inf"),
        (np.float32(math.inf), "x must be finite, not inf"),
        (jnp.float32(-math.inf), "x must be finite, not -inf"),
        (10**400, "x must be finite"),
        (-1, "x must be at least 0, not -1"),
        (0, "x must be above 0, not 0"),
    ):
        with pytest.raises(InputError, match=message):
            check_number("x", wrong, least=0, above=0)


def test_whole_numbers_and_choices():
    check_whole("n", np.int64(2), 2)
    check_choice("norm", "sq", ("sq", "l2"))
    for wrong, message in ((True, "n must be a whole number, not True"), (1.0, "not 1.0"), (1, "at least 2, not 1")):
        with pytest.raises(InputError, match=message):
            check_whole("n", wrong, 2)
    for wrong in ("l1", None, ["sq"]):
        with pytest.raises(InputError, match="norm is .*, but must be one of sq, l2"):
            check_choice("norm", wrong, ("sq", "l2"))


def test_arrays_are_of_real_numbers():
    array = jnp.ones(2, jnp.bfloat16)
    assert as_array("x", array) is array
    np.testing.assert_array_equal(as_array("x", [[True], [False]]), [[True], [False]])
    for wrong, message in (
        ([[1], [2, 3]], "x must be an array of numbers, not a list: "),
        (1j, "x must be an array of real numbers, not a complex of complex128"),
        (jax.random.key(0), "x must be an array of real numbers"),
    ):
        with pytest.raises(InputError, match=message):
            as_array("x", wrong)


def test_errors_of_others_are_named_on_one_line():
    with pytest.raises(InputError, match="^the model: first$"), naming("the model"):
        raise TypeError("first\nsecond")
    with pytest.raises(InputError, match="^the model: ValueError$"), naming("the model"):
        raise ValueError
    with pytest.raises(InputError, match="^ours$"), naming("the model"):
        raise InputError("ours")
    with pytest.raises(RuntimeError), naming("the model"):
        raise RuntimeError
