"""Tiny-ImageNet from archives that have the layout of the official one."""

import io
import shutil
import sys
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from coda_jax import data
from coda_jax.data import tiny_imagenet
from coda_jax.errors import InputError
from tests.data.photographs import cuttings, encoded
from tests.golden import SHARED

WNIDS = ["n02000000", "n01000000", "n03000000"]
WORDS = "n01000000\tcrane, derrick\nn02000000\tcrane\nn03000000\tbroom\nn04000000\tunused\n"


def official_files():
    """The files of an archive by their paths within it: three classes, of which two share their first word."""
    images = (encoded(image) for image in cuttings(9, 64, 64))
    files = {"wnids.txt": "\n".join(WNIDS).encode(), "words.txt": WORDS.encode()}
    for wnid in WNIDS:
        files |= {f"train/{wnid}/{wnid}_boxes.txt": b"boxes"}
        files |= {f"train/{wnid}/images/{wnid}_{number}.JPEG": next(images) for number in range(2)}
    lines = [f"val_{number}.JPEG\t{wnid}\t0\t1\t2\t3" for number, wnid in enumerate(WNIDS)]
    files["val/val_annotations.txt"] = ("\n".join(lines) + "\n").encode()
    files |= {f"val/images/val_{number}.JPEG": next(images) for number in range(3)}
    grey = Image.open(io.BytesIO(files["val/images/val_2.JPEG"])).convert("L")
    return files | {"val/images/val_2.JPEG": encoded(grey), "test/images/test_0.JPEG": encoded(grey)}


def write_archive(data_dir, files, name="tiny-imagenet-200.zip"):
    manual = data_dir / "downloads" / "manual"
    manual.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(manual / name, "w") as archive:
        for path, content in files.items():
            archive.writestr(f"tiny-imagenet-200/{path}", content)
    return manual / name


@pytest.fixture(scope="module")
def files():
    return official_files()


@pytest.fixture(scope="module")
def prepared(files, tmp_path_factory):
    """A directory in which the small archive was prepared."""
    data_dir = tmp_path_factory.mktemp("tfds")
    write_archive(data_dir, files)
    tiny_imagenet.data_sources(str(data_dir))
    return data_dir


def test_images_and_labels(prepared, files):
    train, test, class_names = tiny_imagenet.data_sources(str(prepared))
    # In the order of the numbers; of the two cranes each has its number.
    assert class_names == ("crane (n01000000)", "crane (n02000000)", "broom")
    assert (len(train), len(test)) == (6, 3)
    wnids = sorted(WNIDS)
    for example in train:
        name = example["file_name"].decode()
        wnid = name.partition("_")[0]
        assert wnids[example["label"]] == wnid
        expected = np.asarray(Image.open(io.BytesIO(files[f"train/{wnid}/images/{name}"])))
        assert (example["image"].shape, example["image"].dtype) == ((64, 64, 3), np.uint8)
        # Two decoders, which may round differently.
        np.testing.assert_allclose(example["image"].astype(int), expected, atol=3)
    # In the order of TFDS's builders, a hash of the names: a run goes on with the order that it began with.
    names = [example["file_name"].decode() for example in train]
    assert names == sorted(names, key=tfds.core.hashing.Hasher("train").hash_key) != sorted(names)
    labels = {example["file_name"].decode(): example["label"] for example in test}
    assert labels == {f"val_{number}.JPEG": wnids.index(wnid) for number, wnid in enumerate(WNIDS)}


def test_grey_images_come_out_in_rgb(prepared):
    _, test, _ = tiny_imagenet.data_sources(str(prepared))
    (grey,) = [example["image"] for example in test if example["file_name"] == b"val_2.JPEG"]
    assert grey.shape == (64, 64, 3)
    assert (grey == grey[..., :1]).all()
    assert grey.std() > 0


def test_files_are_stored_as_they_are(prepared, files):
    source = tfds.data_source(
        "tiny_imagenet", data_dir=prepared, split="validation", decoders={"image": tfds.decode.SkipDecoding()}
    )
    for example in source:
        assert example["image"] == files[f"val/images/{example['file_name'].decode()}"]


def test_by_name(prepared):
    dataset = data.load("tiny_imagenet", str(prepared))
    assert dataset.info.preprocessing == data.Preprocessing(size=64, shorter_side=64)
    assert dataset.train[0]["image"].shape == (64, 64, 3)
    batch = next(data.train_batches(dataset.train, batch_size=4, seed=0, flip=True, crop_padding=8, size=64))
    assert batch["image"].shape == (4, 64, 64, 3)


def test_what_is_prepared_needs_no_archive_and_nothing_needs_tensorflow(files, tmp_path, monkeypatch, capfd):

    class NoTensorFlow:
        def find_spec(self, name, *args):
            assert name != "tensorflow"

    monkeypatch.setattr(sys, "meta_path", [NoTensorFlow(), *sys.meta_path])
    archive = write_archive(tmp_path, files)
    tiny_imagenet.data_sources(str(tmp_path))
    archive.unlink()
    tiny_imagenet.data_sources(str(tmp_path))
    prepared = tmp_path / "tiny_imagenet" / "1.0.0"
    assert capfd.readouterr() == ("", f"Preparing Tiny-ImageNet in {prepared}\n")
    # TFDS's default directory, where a user has none.
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    assert len(tiny_imagenet.data_sources(None)[0]) == 6


def fails(data_dir, *parts):
    """Asserts that `data_sources` raises one printable line that has all `parts`, and prepares nothing."""
    with pytest.raises(InputError) as caught:
        tiny_imagenet.data_sources(str(data_dir))
    message = str(caught.value)
    assert message.isprintable()
    for part in parts:
        assert str(part) in message
    assert not list(data_dir.glob("tiny_imagenet/*"))


def test_the_archive_is_missing(tmp_path):
    where = tmp_path / "downloads" / "manual" / "tiny-imagenet-200.zip"
    fails(tmp_path, "download http://cs231n.stanford.edu/tiny-imagenet-200.zip to", where)
    assert not list(tmp_path.iterdir())
    fails(tmp_path / "missing", "is not a directory: create it")


def test_which_archive(files, prepared, tmp_path):
    write_archive(tmp_path, files, "tiny-imagenet-3.zip")
    write_archive(tmp_path, files, "tiny-imagenet-4.zip")
    fails(tmp_path, "several archives of Tiny-ImageNet (tiny-imagenet-3.zip, tiny-imagenet-4.zip): leave one")
    manual = tmp_path / "downloads" / "manual"
    assert tiny_imagenet._find_archive(prepared / "downloads" / "manual").name == "tiny-imagenet-200.zip"
    (manual / "tiny-imagenet-4.zip").unlink()
    assert tiny_imagenet._find_archive(manual).name == "tiny-imagenet-3.zip"
    write_archive(tmp_path, files)
    assert tiny_imagenet._find_archive(manual).name == "tiny-imagenet-200.zip"


FIRST = f"train/{WNIDS[0]}/images/{WNIDS[0]}_0.JPEG"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wnids.txt": None}, "lacks tiny-imagenet-200/wnids.txt"),
        ({"words.txt": None}, "lacks tiny-imagenet-200/words.txt"),
        ({"words.txt": b"\xff\xfe"}, "holds words.txt, which is no text"),
        ({"wnids.txt": b"n01000000\nn01000000"}, "does not name two or more classes in wnids.txt, each once"),
        ({"wnids.txt": b"n01000000"}, "does not name two or more classes in wnids.txt"),
        ({"wnids.txt": b"n01000000\nn02000000"}, "holds tiny-imagenet-200/train/n03000000/images/n03"),
        ({"wnids.txt": b"../../x\nn01000000"}, "has a line in wnids.txt that is no WordNet number: '../../x'"),
        ({"wnids.txt": "\n".join([*WNIDS, "n09000000"]).encode()}, "has no training images of n09000000"),
        ({"val/val_annotations.txt": b""}, "does not name one or more images in val_annotations.txt"),
        ({"val/val_annotations.txt": b"val_0.JPEG\tn01000000\nval_0.JPEG\tn01000000"}, "each once"),
        ({"val/val_annotations.txt": b"val_0.JPEG"}, "no class of wnids.txt: 'val_0.JPEG'"),
        ({"val/val_annotations.txt": b"val_0.JPEG\t\x1b[31m"}, "no class of wnids.txt"),
        ({"val/val_annotations.txt": b"../../secret\tn01000000"}, "lacks tiny-imagenet-200/val/images/../../secret"),
        ({"val/images/val_0.JPEG": None}, "lacks tiny-imagenet-200/val/images/val_0.JPEG"),
        ({FIRST: b"no image"}, f"{FIRST}, which is no JPEG image"),
        ({FIRST: encoded(Image.new("RGB", (64, 64)), "PNG")}, f"{FIRST}, which is no JPEG image"),
        ({FIRST: encoded(Image.new("RGB", (64, 63)))}, f"{FIRST} of 64×63 pixels, not 64×64"),
    ],
)
def test_other_layouts(files, tmp_path, changes, message):
    changed = {path: content for path, content in (files | changes).items() if content is not None}
    archive = write_archive(tmp_path, changed)
    fails(tmp_path, f"{archive} ", message, "fetch it anew from http://cs231n.stanford.edu")


def test_damaged_archives(files, tmp_path):
    archive = write_archive(tmp_path, files)
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    fails(tmp_path, archive, "cannot be read (File is not a zip file): fetch it anew")
    # One bit of an image, which its checksum tells.
    position = content.index(files[FIRST]) + 1000
    archive.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
    fails(tmp_path, archive, "cannot be read (Bad CRC-32 for file 'tiny-imagenet-200/train")


def test_an_archive_that_unpacks_to_much(files, tmp_path):
    manual = tmp_path / "downloads" / "manual"
    archive = write_archive(tmp_path, {path: content for path, content in files.items() if path != "words.txt"})
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("tiny-imagenet-200/words.txt", bytes(20_000_000))
    fails(tmp_path, "holds tiny-imagenet-200/words.txt of more than 10000000 bytes")
    assert [path.name for path in manual.iterdir()] == ["tiny-imagenet-200.zip"]


def test_the_official_files_of_twenty_classes(tmp_path):
    archive = SHARED / "data" / "tiny-imagenet-20.zip"
    if not archive.exists():
        pytest.skip(f"needs {archive}, which only developers have")
    (tmp_path / "downloads" / "manual").mkdir(parents=True)
    shutil.copy(archive, tmp_path / "downloads" / "manual")
    train, test, class_names = tiny_imagenet.data_sources(str(tmp_path))
    assert (len(train), len(test), len(class_names)) == (10_000, 1_000, 20)
    assert class_names[:3] == ("European fire salamander", "albatross", "standard poodle")
    assert np.bincount([example["label"] for example in test]).tolist() == [50] * 20
