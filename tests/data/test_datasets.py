import pytest

from coda_jax import InputError, data


def test_digits():
    dataset = data.load("digits")
    assert dataset.train[0]["image"].shape == (8, 8, 3)
    assert len(dataset.class_names) == 10


def test_cifar10(cifar10_dir):
    dataset = data.load("cifar10", str(cifar10_dir))
    assert (len(dataset.train), len(dataset.test), dataset.class_names[3]) == (50000, 10000, "cat")


def test_unknown_name():
    with pytest.raises(InputError, match="there is no data set 'cifar': choose cifar10 or digits"):
        data.load("cifar")
