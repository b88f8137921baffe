import os

import pytest

from coda_jax import InputError
from coda_jax.errors.files import as_json, replace_files


def test_json_is_ascii_and_ends_with_a_line():
    assert as_json({"Käfer": (1, None)}) == b'{\n  "K\\u00e4fer": [\n    1,\n    null\n  ]\n}\n'


def test_files_are_made_and_replaced(tmp_path):
    first, second = tmp_path / "new" / "folder" / "first.bin", tmp_path / "second"
    second.write_text("before")
    replace_files({first: b"1", second: b"2"})
    assert (first.read_bytes(), second.read_bytes()) == (b"1", b"2")
    assert sorted(os.listdir(tmp_path)) == ["new", "second"]
    assert os.listdir(first.parent) == ["first.bin"]


def test_none_is_replaced_where_one_cannot_be(tmp_path):
    (tmp_path / "first").write_text("before")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for bad, message in (("folder", "cannot write to .*folder: it is a directory"), ("file/second", "cannot write to")):
        with pytest.raises(InputError, match=message):
            replace_files({tmp_path / "first": b"1", tmp_path / bad: b"2"})
        assert (tmp_path / "first").read_text() == "before"
        assert sorted(os.listdir(tmp_path)) == ["file", "first", "folder"]
