import pytest

from coda_jax import InputError
from coda_jax.data import DatasetInfo, Preprocessing
from coda_jax.data.description import check_info, info_entries, make_info


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
