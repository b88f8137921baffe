import os
import shutil

import pytest

from coda_jax import InputError, data
from coda_jax.data import DatasetInfo, Preprocessing
from coda_jax.data.datasets import check_info, info_entries, make_info
from coda_jax.errors import RunError


def test_digits():
    dataset = data.load("digits")
    assert dataset.train[0]["image"].shape == (8, 8, 3)
    assert len(dataset.info.class_names) == 10


def test_cifar10(cifar10_dir):
    dataset = data.load("cifar10", str(cifar10_dir))
    assert (len(dataset.train), len(dataset.test), dataset.info.class_names[3]) == (50000, 10000, "cat")


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


def test_info_of_a_file_comes_back():
    info = DatasetInfo(("cat", "dog"), Preprocessing(8, 9, grey=True))
    entries = info_entries(info)
    assert entries == {"class_names": ["cat", "dog"], "preprocessing": {"size": 8, "shorter_side": 9, "grey": True}}
    assert make_info(**entries) == info


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": "cat"}, "class_names must be a list of names"),
        ({"class_names": ["cat", 1]}, "class_names must be a list of names"),
        ({"preprocessing": {"size": 8, "shorter_side": 8}}, "must have the entries size, shorter_side, grey"),
        ({"preprocessing": {"size": 8, "shorter_side": 7, "grey": True}}, "shorter_side must be at least 8, not 7"),
        ({"preprocessing": {"size": 8.0, "shorter_side": 8, "grey": True}}, "size must be a whole number"),
        ({"preprocessing": {"size": 8, "shorter_side": 8, "grey": 1}}, "grey must be true or false, not 1"),
    ],
)
def test_info_of_a_file_that_is_none(changes, message):
    with pytest.raises(InputError, match=message):
        make_info(**info_entries(DatasetInfo(("cat",), Preprocessing(8, 8))) | changes)


def test_info_of_another_number_of_classes():
    info = DatasetInfo(("cat", "dog"), Preprocessing(8, 8))
    check_info(info, 2)
    with pytest.raises(InputError, match="info has 2 class_names, but the network 3 classes"):
        check_info(info, 3)
    with pytest.raises(InputError, match="info must be a DatasetInfo or None, not 'cat'"):
        check_info("cat", 3)


def test_unknown_name():
    with pytest.raises(InputError, match="there is no data set 'cifar': choose cifar10, digits, tiny_imagenet, "):
        data.load("cifar")
