import os
import shutil

import pytest

from coda_jax import InputError, data
from coda_jax.data.datasets import DATASETS
from coda_jax.errors import RunError


def test_digits():
    dataset = data.load("digits")
    assert dataset.train[0]["image"].shape == (8, 8, 3)
    assert len(dataset.info.class_names) == 10


def test_cifar10(cifar10_dir):
    dataset = data.load("cifar10", str(cifar10_dir))
    assert (len(dataset.train), len(dataset.test), dataset.info.class_names[3]) == (50000, 10000, "cat")
    assert sum(1 for _ in dataset.test) == 10000  # A `for` ends.


def test_a_damaged_example_is_named(cifar10_dir, tmp_path):
    shutil.copytree(cifar10_dir, tmp_path / "data", copy_function=os.symlink)
    (test_file,) = tmp_path.glob("data/cifar10/*/cifar10-test*")
    content = bytearray(test_file.read_bytes())
    content[len(content) // 2] ^= 1
    test_file.unlink()
    test_file.write_bytes(content)
    test = data.load("cifar10", str(tmp_path / "data")).test
    failures = []
    for index in range(len(test)):
        try:
            test[index]
        except RunError as error:
            failures.append(str(error))
            assert f"test example {index}, counted from 0, cannot be read (" in str(error)
    assert len(failures) == 1
    assert "put back an undamaged copy" in failures[0]


def test_unknown_name():
    *others, last = DATASETS
    with pytest.raises(InputError, match=f"there is no data set 'cifar': choose {', '.join(others)} or {last}"):
        data.load("cifar")
