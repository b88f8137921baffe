import os
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from coda_jax import InputError, data
from coda_jax.data.image_folder import class_names
from coda_jax.errors import RunError
from tests.golden import SHARED


def paint(path, colour="red", size=(6, 4)):
    """Write an image of one colour; JPEGs keep grey, and others nearly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def fill(folder, **counts):
    """So many images of every class, each of a grey level of its own, 20 apart."""
    levels = iter(range(0, 256, 20))
    for name, count in counts.items():
        for number in range(count):
            paint(folder / name / f"{number}.png", (next(levels),) * 3)


def load(folder, image_size=4):
    return data.load("image_folder", folder, image_size)


def grey_levels(source):
    """(grey level, label) of every image."""
    return [(int(example["image"][0, 0, 0]), example["label"]) for example in source]


def test_a_folder_that_is_split(tmp_path, capsys):
    fill(tmp_path / "train", dog=2, cat=3)
    fill(tmp_path / "val", cat=1)
    dataset = load(tmp_path)
    assert dataset.info.class_names == ("cat", "dog")
    assert dataset.info.preprocessing == data.Preprocessing(size=4, shorter_side=4)
    assert sorted(grey_levels(dataset.train)) == [(0, 1), (20, 1), (40, 0), (60, 0), (80, 0)]
    assert grey_levels(dataset.test) == [(0, 0)]
    example = dataset.train[0]
    assert (example["image"].shape, example["image"].dtype) == ((4, 4, 3), np.uint8)
    assert capsys.readouterr().err == (
        f"2 classes (cat, dog): trained on 5 images in {tmp_path}/train; tested on 1 in {tmp_path}/val\n"
    )


def test_test_goes_before_val(tmp_path, capsys):
    for part, count in (("train", 2), ("val", 1), ("test", 3)):
        fill(tmp_path / part, cat=count, dog=count)
    assert len(load(tmp_path).test) == 6
    assert f"tested on 6 in {tmp_path}/test; {tmp_path}/val is not used" in capsys.readouterr().err


def test_a_fifth_of_every_class_is_held_back(tmp_path, capsys):
    for name, count in (("a", 2), ("b", 4), ("c", 10)):
        for number in range(count):
            paint(tmp_path / name / f"{number}.png")
    dataset = load(tmp_path)
    assert np.bincount([label for _, label in grey_levels(dataset.test)]).tolist() == [1, 1, 2]
    assert np.bincount([label for _, label in grey_levels(dataset.train)]).tolist() == [1, 3, 8]
    assert "trained on 12 images in" in (told := capsys.readouterr().err)
    assert "tested on 4 others, a fifth of each class" in told


def test_train_alone_is_divided_too(tmp_path):
    fill(tmp_path / "train", cat=5, dog=5)
    dataset = load(tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (8, 2)


def test_the_split_depends_on_the_paths_alone(tmp_path, monkeypatch):
    fill(tmp_path / "one", a=6, b=6)
    before = [grey_levels(source) for source in load(tmp_path / "one")[:2]]
    fill(tmp_path / "another", a=6, b=6)
    listed = os.scandir

    class Reversed:  # As another file system might list it.
        def __init__(self, folder):
            with listed(folder) as entries:
                self._entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self):
            return iter(self._entries)

        def __exit__(self, *exception):
            pass

    monkeypatch.setattr(os, "scandir", Reversed)
    assert [grey_levels(source) for source in load(tmp_path / "another")[:2]] == before
    # The order of SHA-256 of "a/0.png" and so on, as sha256sum gives them: pinned, so that runs can go on for ever.
    assert before[1] == [(120, 1), (0, 0)]
    fill(tmp_path / "third", c=6, h=6)  # c/4.png and h/1.png have the smallest hashes of their classes.
    assert sorted(grey_levels(load(tmp_path / "third").test)) == [(80, 0), (140, 1)]


def test_an_added_image_moves_no_other_from_test_to_training(tmp_path):
    for number in range(12):
        paint(tmp_path / "a" / f"{number}.png", (10 * number,) * 3)
    paint(tmp_path / "b" / "0.png")
    paint(tmp_path / "b" / "1.png")
    before = set(grey_levels(load(tmp_path).test))
    paint(tmp_path / "a" / "new.png", (255,) * 3)
    after = set(grey_levels(load(tmp_path).test))
    assert len(before - after) <= 1  # None, unless the new one is held back in the place of one.


def test_classes_are_mixed(tmp_path):
    for name in "abcd":
        for number in range(20):
            paint(tmp_path / name / f"{number}.png")
    labels = [label for _, label in grey_levels(load(tmp_path).test)]
    assert sorted(labels) == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert set(labels[:12]) == {0, 1, 2, 3}


def test_what_counts_as_an_image(tmp_path, capsys):
    fill(tmp_path, cat=2, dog=2)
    paint(tmp_path / "cat" / "kittens" / "young" / "A.JPEG", (200,) * 3)
    paint(tmp_path / "elsewhere" / "linked.bmp", (250,) * 3)
    (tmp_path / "elsewhere").rename(tmp_path.parent / "elsewhere")
    (tmp_path / "dog" / "friends").symlink_to(tmp_path.parent / "elsewhere")
    (tmp_path / "dog" / "b.webp").symlink_to(tmp_path / "dog" / "0.png")
    (tmp_path / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    paint(tmp_path / "cat" / ".hidden.png")
    paint(tmp_path / ".thumbnails" / "0.png")
    (tmp_path / "README").write_text("about")
    (tmp_path / "cat" / "notes.txt").write_text("about")
    dataset = load(tmp_path)
    assert dataset.info.class_names == ("cat", "dog")
    assert len(dataset.train) + len(dataset.test) == 7
    assert capsys.readouterr().err.splitlines()[1:] == [
        f"skipped 3 files that are not named as images, such as {tmp_path}/README"
    ]


def test_names_of_any_kind(tmp_path, capsys):
    names = ("a b", "<b>bold", "$x$", "größe", "猫", "two\nlines", "\x1b[31m", os.fsdecode(b"\xff"))
    for name in names:
        paint(tmp_path / name / f"{name}.png", size=(4, 4))
        paint(tmp_path / name / "other.png", size=(4, 4))
    dataset = load(tmp_path)
    assert dataset.info.class_names == tuple(sorted(names))
    assert all(dataset.train[index]["image"][0, 0].tolist() == [255, 0, 0] for index in range(len(dataset.train)))
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "\x1b" not in told and "größe, two lines, 猫" in told


def test_classes_called_train_and_test(tmp_path):
    fill(tmp_path, train=2, car=2)
    assert class_names(tmp_path) == ("car", "train")
    fill(tmp_path / "vehicles", train=2, test=2)  # As long as one of them only is.
    with pytest.raises(InputError, match="/vehicles/train must have a subfolder of images"):
        class_names(tmp_path / "vehicles")


def test_any_size_and_mode(tmp_path):
    fill(tmp_path, a=2, b=2)
    Image.new("RGBA", (40, 9), (0, 0, 0, 0)).save(tmp_path / "a" / "clear.png")
    Image.new("CMYK", (9, 40)).save(tmp_path / "a" / "cmyk.jpg")
    Image.new("I;16", (5, 5)).save(tmp_path / "b" / "deep.tif")
    Image.new("P", (5, 5)).save(tmp_path / "b" / "palette.gif")
    dataset = load(tmp_path, 5)
    images = [source[index]["image"] for source in dataset[:2] for index in range(len(source))]
    assert {image.shape for image in images} == {(5, 5, 3)} and len(images) == 8


def test_a_damaged_image_is_named(tmp_path):
    fill(tmp_path, a=2, b=2)
    for name in ("a", "b"):
        for path in (tmp_path / name).iterdir():
            path.write_bytes(path.read_bytes()[:40])
    dataset = load(tmp_path)  # None is read before it is asked for.
    with pytest.raises(
        RunError, match=rf"^{tmp_path}/[ab]/[01].png: .*: put back an undamaged copy, or remove the file$"
    ):
        dataset.train[1]
    with pytest.raises(IndexError):
        dataset.train[2]


def test_workers_can_have_it(tmp_path):
    fill(tmp_path, a=3, b=3)
    train = load(tmp_path).train
    assert grey_levels(pickle.loads(pickle.dumps(train))) == grey_levels(train)


def build(*paths):
    """A function that makes images, or for names that end with a slash folders."""

    def make(folder):
        for path in paths:
            if path.endswith("/"):
                (folder / path).mkdir(parents=True, exist_ok=True)
            else:
                paint(folder / path)

    return make


def loop(folder):
    build("a/0.png", "a/1.png", "b/0.png", "b/1.png", "b/c/")(folder)
    (folder / "b" / "c" / "up").symlink_to(folder / "b")


def around(folder):
    build("a/0.png", "b/0.png")(folder)
    (folder / "a" / "all").symlink_to(folder)


MISTAKES = [
    (lambda folder: folder.rmdir(), "data_dir is DIR, but there is no such folder"),
    (build(), "DIR must have a subfolder of images for each of two or more classes, but there is none"),
    (build("0.png", "1.png"), "DIR must have a subfolder of images .* but there is none"),
    (build("a/0.png", "a/1.png"), "DIR must have a subfolder of images .* but only a is there"),
    (build("train/", "test/"), "DIR/train must have a subfolder of images"),
    (build("a/0.png", "a/1.png", "b/"), "DIR/b has 0 images, but needs 2 at least: add images, or remove the folder"),
    (build("a/0.png", "a/1.png", "b/0.png"), "DIR/b has 1 images, but needs 2 at least"),
    (build("train/a/0.png", "train/b/", "val/a/0.png"), "DIR/train/b has 0 images, but needs 1 at least"),
    (build("train/a/0.png", "train/b/0.png", "val/c/0.png"), "DIR/val/c is of no class in DIR/train: rename it"),
    (build("train/a/0.png", "train/b/0.png", "val/0.png"), "DIR/val has no images in subfolders named as the classes"),
    (build("train/a/0.png", "train/b/0.png", "test/a/"), "DIR/test has no images in subfolders named as the classes"),
    (loop, "DIR/b/c/up is a link to a folder that it is in itself: remove the link"),
    (around, "DIR/a/all is a link to a folder that it is in itself"),
]


@pytest.mark.parametrize(("make", "message"), MISTAKES)
def test_mistakes(tmp_path, make, message, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    make(folder)
    with pytest.raises(InputError, match=f"^{message.replace('DIR', str(folder))}"):
        load(folder)
    assert capsys.readouterr().err == ""


def test_other_mistakes(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="data_dir is missing: name a folder"):
        load(None)
    with pytest.raises(InputError, match="image_size must be a whole number, not None"):
        load(tmp_path, None)
    with pytest.raises(InputError, match="image_size must be at most 4096, not 5000"):
        load(tmp_path, 5000)
    with pytest.raises(InputError, match="image_size is 8, but the images of digits have a size of their own"):
        data.load("digits", image_size=8)

    def refuse(folder):
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=f"cannot read the folder {tmp_path}: Permission denied"):
        load(tmp_path)


def test_real_photographs(tmp_path):
    archive = SHARED / "data" / "tiny-imagenet-20.zip"
    if not archive.exists():
        pytest.skip(f"needs {archive}, which only developers have")
    with zipfile.ZipFile(archive) as archive:
        for number, name in enumerate(archive.namelist()):
            parts = name.split("/")
            if number % 20 == 0 and parts[1] == "train" and name.endswith(".JPEG"):
                path = tmp_path / "/".join(parts[1:])  # train/CLASS/images/CLASS_0.JPEG
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(name))
    dataset = load(tmp_path, 64)
    assert (len(dataset.info.class_names), len(dataset.train) + len(dataset.test)) == (20, 500)
    batch = next(data.train_batches(dataset.train, batch_size=32, seed=0, flip=True, crop_padding=8))
    assert batch["image"].shape == (32, 64, 64, 3)
    assert batch["image"].std() > 0.1  # Photographs use their range.
