"""ImageNet from small archives that have the layout of the official ones."""

import io
import sys
import tarfile
from itertools import cycle

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from coda_jax import data
from coda_jax.data import imagenet, prepared
from coda_jax.data.preprocessing import Preprocessing, prepare, resize_shorter_side
from coda_jax.errors import InputError
from tests.data.photographs import cuttings, encoded

PREPROCESSING = Preprocessing(size=30, shorter_side=32)
WNIDS = imagenet._lines("labels.txt")
VALIDATED = [WNIDS.index(wnid) for wnid in imagenet._lines("validation_labels.txt")[:60]]
# Wide, high, grey, CMYK, and one that is a PNG in spite of its name.
PHOTOGRAPHS = [*cuttings(3, 50, 40), *cuttings(3, 40, 70)]
FILES = [encoded(image) for image in PHOTOGRAPHS]
GREY = encoded(PHOTOGRAPHS[0].convert("L"))
CMYK = encoded(PHOTOGRAPHS[1].convert("CMYK"))
PNG = encoded(PHOTOGRAPHS[2], "PNG")


def make_tar(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def train_files(classes):
    """Archives of classes by name: each of two images, but the first of three."""
    images = cycle(FILES)
    files = {wnid: {f"{wnid}_{number}.JPEG": next(images) for number in (3, 17)} for wnid in WNIDS[:classes]}
    files[WNIDS[0]] = dict(zip([f"{WNIDS[0]}_{number}.JPEG" for number in range(3)], [GREY, CMYK, PNG], strict=True))
    return {f"{wnid}.tar": make_tar(images) for wnid, images in files.items()}


def validation_files():
    # In another order than that of their numbers, as in the official archive.
    return {f"ILSVRC2012_val_{number:08d}.JPEG": FILES[number % 6] for number in range(60, 0, -1)}


def write_archives(data_dir, train, validation):
    manual = data_dir / "downloads" / "manual"
    manual.mkdir(parents=True, exist_ok=True)
    (manual / "ILSVRC2012_img_train.tar").write_bytes(train if isinstance(train, bytes) else make_tar(train))
    (manual / "ILSVRC2012_img_val.tar").write_bytes(
        validation if isinstance(validation, bytes) else make_tar(validation)
    )
    return manual


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A directory in which all 1,000 classes were prepared, and from these the first 100."""
    data_dir = tmp_path_factory.mktemp("tfds")
    manual = write_archives(data_dir, train_files(1000), validation_files())
    # Several files for a split, as there are of all of ImageNet.
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(prepared, "_EXAMPLES_PER_FILE", 300)
        imagenet.data_sources(str(data_dir), 1000, PREPROCESSING)
    for archive in manual.iterdir():
        archive.unlink()
    imagenet.data_sources(str(data_dir), 100, PREPROCESSING)
    return data_dir


def raw(data_dir, name, split):
    """(file name, content, label) of every example, as other code reads them."""
    source = tfds.data_source(name, data_dir=data_dir, split=split, decoders={"image": tfds.decode.SkipDecoding()})
    return [(example["file_name"].decode(), example["image"], example["label"]) for example in source]


def test_all_classes_as_tfds_has_them(everything):
    train = raw(everything, "imagenet2012", "train")
    assert len(train) == 2001
    assert all(name.startswith(f"{WNIDS[label]}_") for name, _, label in train)
    validation = raw(everything, "imagenet2012", "validation")
    labels = {name: label for name, _, label in validation}
    assert labels == {f"ILSVRC2012_val_{number:08d}.JPEG": VALIDATED[number - 1] for number in range(1, 61)}
    assert {name: content for name, content, _ in validation} == validation_files()
    assert len(list(everything.glob("imagenet2012/5.1.0/imagenet2012-train.array_record*"))) == 7
    own = tfds.builder_cls("imagenet2012")
    assert (own.name, str(own.VERSION)) == ("imagenet2012", "5.1.0")
    features = tfds.builder_from_directory(everything / "imagenet2012" / "5.1.0").info.features
    assert set(features) == {"image", "label", "file_name"}
    assert features["label"].names == WNIDS


def test_the_first_hundred_are_the_same_from_all_and_from_the_archives(everything, tmp_path, monkeypatch):

    class NoTensorFlow:
        def find_spec(self, name, *args):
            assert name != "tensorflow"

    monkeypatch.setattr(sys, "meta_path", [NoTensorFlow(), *sys.meta_path])
    write_archives(tmp_path, train_files(100), validation_files())
    _, _, class_names = imagenet.data_sources(str(tmp_path), 100, PREPROCESSING)
    assert list(class_names) == WNIDS[:100]
    for split, count in (("train", 201), ("validation", sum(label < 100 for label in VALIDATED))):
        examples = raw(tmp_path, "imagenet100", split)
        assert len(examples) == count > 0
        assert examples == raw(everything, "imagenet100", split)
        assert examples == [example for example in raw(everything, "imagenet2012", split) if example[2] < 100]


def test_cmyk_and_png_become_rgb_jpegs(everything):
    contents = {name: content for name, content, _ in raw(everything, "imagenet2012", "train")}
    assert contents[f"{WNIDS[0]}_0.JPEG"] == GREY
    for number, photograph in ((1, PHOTOGRAPHS[1]), (2, PHOTOGRAPHS[2])):
        image = Image.open(io.BytesIO(contents[f"{WNIDS[0]}_{number}.JPEG"]))
        assert (image.format, image.mode) == ("JPEG", "RGB")
        # JPEG loses some, CMYK more: a wrong sign of the inks would be over 100.
        assert np.abs(np.asarray(image).astype(int) - np.asarray(photograph)).mean() < 10


def test_images_are_resized_and_cropped_for_tests(everything):
    train, test, _ = imagenet.data_sources(str(everything), 100, PREPROCESSING)
    shapes = {train[index]["image"].shape for index in range(len(train))}
    assert shapes == {(32, 40, 3), (56, 32, 3)}
    (first,) = [
        (index, label) for index, (name, _, label) in enumerate(raw(everything, "imagenet100", "train"))
        if name == f"{WNIDS[0]}_0.JPEG"
    ]  # fmt: skip
    grey = train[first[0]]
    assert grey["label"] == first[1] == 0
    assert (grey["image"] == grey["image"][..., :1]).all()
    for index, (_, content, label) in enumerate(raw(everything, "imagenet100", "validation")):
        expected, _ = prepare(Image.open(io.BytesIO(content)), PREPROCESSING)
        assert test[index]["label"] == label
        np.testing.assert_array_equal(test[index]["image"], expected)


def test_files_that_others_stored_as_they_were(everything):
    train, _, _ = imagenet.data_sources(str(everything), 100, PREPROCESSING)
    for content in (CMYK, PNG):
        images = imagenet.Images([{"image": content, "label": 4}], PREPROCESSING, resize_shorter_side)
        assert images[0]["image"].shape == (32, 40, 3)


def test_by_name(everything):
    dataset = data.load("imagenet100", str(everything))
    assert dataset.info.preprocessing == Preprocessing(size=240, shorter_side=256)
    assert len(dataset.info.class_names) == 100
    assert min(dataset.train[0]["image"].shape[:2]) == 256
    assert dataset.test[0]["image"].shape == (240, 240, 3)
    assert len(data.load("imagenet", str(everything)).train) == 2001
    settings = {"batch_size": 4, "seed": 0, "flip": True, "crop_padding": 0, "size": 240, "randaugment": 10}
    assert next(data.train_batches(dataset.train, **settings))["image"].shape == (4, 240, 240, 3)


def fails(data_dir, *parts, classes=100):
    """Asserts that `data_sources` raises one printable line that has all `parts`, and prepares nothing."""
    with pytest.raises(InputError) as caught:
        imagenet.data_sources(str(data_dir), classes, PREPROCESSING)
    message = str(caught.value)
    assert message.isprintable()
    for part in parts:
        assert str(part) in message
    assert not list(data_dir.glob("imagenet*/*"))


def test_the_archives_are_missing(tmp_path):
    fails(
        tmp_path, "register at https://image-net.org/download-images", tmp_path / "downloads" / "manual", classes=1000
    )
    assert not list(tmp_path.iterdir())
    manual = write_archives(tmp_path, {}, {})
    (manual / "ILSVRC2012_img_val.tar").unlink()
    fails(tmp_path, "put ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar into")


@pytest.fixture(scope="module")
def hundred():
    return train_files(100)


LAST = WNIDS[99]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({f"{LAST}.tar": None}, f"img_train.tar lacks {LAST}.tar"),
        ({f"{LAST}.tar": b"no archive"}, "img_train.tar cannot be read ("),
        ({f"{LAST}.tar": make_tar({"a.txt": b""})}, f"holds a.txt in {LAST}.tar, which is no image of the class"),
        ({f"{LAST}.tar": make_tar({f"{WNIDS[0]}_1.JPEG": GREY})}, "which is no image of the class"),
        ({f"{LAST}.tar": make_tar({f"{LAST}_1.JPEG": b"text"})}, f"holds {LAST}_1.JPEG, which is no image"),
        ({f"{LAST}.tar": make_tar({f"{LAST}_1.JPEG": GREY})[:700]}, "cannot be read (unexpected end of data)"),
    ],
)
def test_other_layouts_of_training_images(hundred, tmp_path, changes, message):
    changed = {name: content for name, content in (hundred | changes).items() if content is not None}
    write_archives(tmp_path, changed, validation_files())
    fails(tmp_path, message, "put the official archive in its place")


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (b"no archive at all", "img_val.tar cannot be read ("),
        ({"ILSVRC2012_val_00000000.JPEG": FILES[0]}, "holds ILSVRC2012_val_00000000.JPEG, which is no validation"),
        ({"ILSVRC2012_val_00050001.JPEG": FILES[0]}, "holds ILSVRC2012_val_00050001.JPEG, which is no validation"),
        ({"\x1b[31m": FILES[0]}, "which is no validation image"),
        (make_tar(validation_files())[:2000], "cannot be read (unexpected end of data)"),
    ],
)
def test_other_layouts_of_validation_images(hundred, tmp_path, archive, message):
    write_archives(tmp_path, hundred, archive)
    fails(tmp_path, message, "put the official archive in its place")


def test_members_that_only_claim_a_size(hundred, tmp_path):
    member = tarfile.TarInfo(f"{LAST}_1.JPEG")
    for size, message in (
        (10**12, f"holds {LAST}_1.JPEG of 1000000000000 bytes"),
        (-512, "a member has a negative size"),
    ):
        member.size = size
        archive = member.tobuf(tarfile.GNU_FORMAT) + bytes(1024)
        write_archives(tmp_path, hundred | {f"{LAST}.tar": archive}, validation_files())
        fails(tmp_path, message)
