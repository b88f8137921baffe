"""Imagenette from small archives that have the layout of the official one."""

import hashlib
import importlib.util
import io
import shutil
import sys
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from coda_jax import data
from coda_jax.data import imagenette
from coda_jax.data.preprocessing import Preprocessing, prepare
from coda_jax.errors import InputError
from tests.data.photographs import cuttings, encoded
from tests.golden import SHARED

NUMBERS = list(imagenette.CLASS_NAMES)
NAMES = ("tench", "English springer", "cassette player", "chain saw", "church")
NAMES += ("French horn", "garbage truck", "gas pump", "golf ball", "parachute")
PREPROCESSING = Preprocessing(size=128, shorter_side=128)


def official_files():
    """The files of an archive by their paths: two training images of each class, wide and high, and one of tests."""
    wide, high, square = (
        (encoded(image) for image in cuttings(10, *size)) for size in ((200, 160), (160, 190), (160, 160))
    )
    files = {"noisy_imagenette.csv": b"path,noisy_labels_0\n"}
    for number in NUMBERS:
        files[f"train/{number}/{number}_1.JPEG"] = next(wide)
        files[f"train/{number}/ILSVRC2012_val_{number[-4:]}.JPEG"] = next(high)
        files[f"val/{number}/{number}_2.JPEG"] = next(square)
    return files


def make_archive(files, mode="w:gz"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"imagenette2-160/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def put_by_hand(data_dir, content, name="imagenette2-160.tar"):
    (data_dir / "downloads" / "manual").mkdir(parents=True, exist_ok=True)
    archive = data_dir / "downloads" / "manual" / name
    archive.write_bytes(content)
    return archive


@pytest.fixture(scope="module")
def files():
    return official_files()


@pytest.fixture(scope="module")
def prepared(files, tmp_path_factory):
    """A directory in which the small archive was prepared; TensorFlow is not there to help."""
    assert importlib.util.find_spec("tensorflow") is None
    data_dir = tmp_path_factory.mktemp("tfds")
    archive = put_by_hand(data_dir, make_archive(files, "w"))
    imagenette.data_sources(str(data_dir), PREPROCESSING)
    archive.unlink()
    return data_dir


def raw(data_dir, split):
    """(content, label) of every example, as other code reads them."""
    decoders = {"image": tfds.decode.SkipDecoding()}
    source = tfds.data_source("imagenette/160px-v2", data_dir=data_dir, split=split, decoders=decoders)
    return [(example["image"], example["label"]) for example in source]


def test_it_is_tfdss_own(prepared, files):
    for split, folder in (("train", "train"), ("validation", "val")):
        paths = [path for path in files if path.startswith(f"{folder}/")]
        # In the order of TFDS's builder, which hashes the names; a run goes on with the order that it began with.
        paths.sort(key=lambda path: tfds.core.hashing.Hasher(split).hash_key(path.rpartition("/")[2]))
        assert raw(prepared, split) == [(files[path], NUMBERS.index(path.split("/")[1])) for path in paths]
    builder = tfds.builder_from_directory(prepared / "imagenette" / "160px-v2" / "1.0.0")
    own = tfds.builder_cls("imagenette")
    assert (own.name, str(own.VERSION), "160px-v2" in own.builder_configs) == ("imagenette", "1.0.0", True)
    assert (builder.info.name, builder.info.config_name, str(builder.info.version)) == (
        "imagenette",
        "160px-v2",
        "1.0.0",
    )
    assert set(builder.info.features) == {"image", "label"}
    path = tfds.core.tfds_path("image_classification/imagenette_labels.txt")
    assert builder.info.features["label"].names == path.read_text().split() == NUMBERS


def test_training_images_are_whole_and_test_images_squares(prepared):
    train, test, class_names = imagenette.data_sources(str(prepared), PREPROCESSING)
    assert class_names == NAMES
    assert (len(train), len(test)) == (20, 10)
    assert {train[index]["image"].shape for index in range(20)} == {(160, 200, 3), (190, 160, 3)}
    for index, (content, label) in enumerate(raw(prepared, "validation")):
        expected, _ = prepare(Image.open(io.BytesIO(content)), PREPROCESSING)
        assert expected.shape == (128, 128, 3)
        np.testing.assert_array_equal(test[index]["image"], expected)
        assert test[index]["label"] == label
    larger, _, _ = imagenette.data_sources(str(prepared), Preprocessing(size=192, shorter_side=192))
    assert min(larger[0]["image"].shape[:2]) == 192


def test_by_name(prepared):
    dataset = data.load("imagenette", str(prepared), image_size=160)
    assert dataset.info == data.DatasetInfo(NAMES, Preprocessing(size=160, shorter_side=160))
    assert dataset.test[0]["image"].shape == (160, 160, 3)
    with pytest.raises(InputError, match="image_size must be a whole number"):
        data.load("imagenette", str(prepared))


def test_it_is_downloaded_and_verified(files, tmp_path, monkeypatch, capfd):
    content = make_archive(files)
    calls = []

    def retrieve(url, known_hash, name, directory, progressbar):
        calls.append((url, known_hash, progressbar))
        (directory / name).write_bytes(content)

    monkeypatch.setattr(imagenette, "ARCHIVE_SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr("pooch.retrieve", retrieve)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # A terminal has a progress bar.
    train, _, _ = imagenette.data_sources(str(tmp_path), PREPROCESSING)
    assert len(train) == 20
    archive = tmp_path / "downloads" / "imagenette" / "imagenette2-160.tgz"
    said = capfd.readouterr().err
    assert f"Downloading Imagenette (99 MB) from {imagenette.ARCHIVE_URL} to {archive}" in said
    shutil.rmtree(tmp_path / "imagenette")
    imagenette.data_sources(str(tmp_path), PREPROCESSING)  # From the archive that is there.
    assert calls == [(imagenette.ARCHIVE_URL, hashlib.sha256(content).hexdigest(), True)]


def test_the_hash_is_that_in_tfds():
    path = tfds.core.tfds_path("datasets/imagenette/checksums.tsv")
    lines = dict(line.split("\t", 1) for line in path.read_text().splitlines())
    assert lines[imagenette.ARCHIVE_URL].split("\t")[:2] == ["99003388", imagenette.ARCHIVE_SHA256]


FIRST = f"train/{NUMBERS[0]}/{NUMBERS[0]}_1.JPEG"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({f"val/{NUMBERS[9]}/{NUMBERS[9]}_2.JPEG": None}, f"has no images in imagenette2-160/val/{NUMBERS[9]}"),
        ({"train/n01000000/a.JPEG": b""}, "holds imagenette2-160/train/n01000000/a.JPEG, which is of no class"),
        ({"train/\x1b[31m/a.JPEG": b""}, "which is of no class"),
        ({FIRST: b"no image"}, f"holds imagenette2-160/{FIRST}, which is no image"),
    ],
)
def test_other_layouts(files, tmp_path, changes, message):
    changed = {path: content for path, content in (files | changes).items() if content is not None}
    fails(tmp_path, put_by_hand(tmp_path, make_archive(changed)), message)


def test_damaged_archives(files, tmp_path):
    content = make_archive(files)
    fails(tmp_path, put_by_hand(tmp_path, b"<html>Not found</html>"), "cannot be read (")
    fails(tmp_path, put_by_hand(tmp_path, content[: len(content) // 2], "imagenette2-160.tgz"), "cannot be read (")


def fails(data_dir, archive, message):
    """Asserts that `data_sources` raises one printable line, and prepares nothing."""
    with pytest.raises(InputError) as caught:
        imagenette.data_sources(str(data_dir), PREPROCESSING)
    said = str(caught.value)
    assert said.isprintable()
    assert said.startswith(f"{archive} ") and message in said
    assert f"put the official archive in its place, {imagenette.ARCHIVE_URL}" in said
    assert not list(data_dir.glob("imagenette/*/*"))


def test_all_of_imagenette(tmp_path):
    archive = SHARED / "data" / "imagenette2-160.tar"
    if not archive.exists():
        pytest.skip(f"needs {archive}, which only developers have")
    (tmp_path / "downloads" / "manual").mkdir(parents=True)
    (tmp_path / "downloads" / "manual" / archive.name).symlink_to(archive)
    train, test, class_names = imagenette.data_sources(str(tmp_path), PREPROCESSING)
    assert (len(train), len(test), class_names) == (9_469, 3_925, NAMES)
    labels = [test._source[index]["label"] for index in range(len(test))]
    assert np.bincount(labels).tolist() == [387, 395, 357, 386, 409, 394, 389, 419, 399, 390]
