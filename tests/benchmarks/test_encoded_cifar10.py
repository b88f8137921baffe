import io
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks import encoded_cifar10
from coda_jax import InputError

COLOURS = {"train": [(200, 30, 60), (0, 128, 255), (90, 90, 90)], "test": [(10, 250, 10), (255, 255, 255)]}
LABELS = {"train": [3, 0, 9], "test": [1, 7]}


def image_file(colour, kind):
    file = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(file, kind)
    return file.getvalue()


@pytest.fixture
def path(tmp_path):
    images = {split: [image_file(colour, "jpeg") for colour in colours] for split, colours in COLOURS.items()}
    encoded_cifar10.write(tmp_path / "new" / "cifar10.npz", images, LABELS)
    return tmp_path / "new" / "cifar10.npz"


@pytest.mark.parametrize("without_opencv", [False, True])
def test_what_is_written_is_read(path, without_opencv, monkeypatch):
    if without_opencv:
        monkeypatch.setitem(sys.modules, "cv2", None)
    for split, examples in zip(COLOURS, encoded_cifar10.read(path), strict=True):
        assert examples["image"].shape == (len(COLOURS[split]), 32, 32, 3) and examples["image"].dtype == np.uint8
        # JPEG rounds a single colour by two levels at most.
        means = examples["image"].mean((1, 2))
        np.testing.assert_allclose(means, COLOURS[split], atol=2)
        assert examples["label"].tolist() == LABELS[split] and examples["label"].dtype == np.int32


def test_jpegs_are_kept_and_others_encoded():
    jpeg, png = image_file((1, 2, 3), "jpeg"), image_file((1, 2, 3), "png")
    assert encoded_cifar10.as_jpeg(jpeg) is jpeg
    assert Image.open(io.BytesIO(encoded_cifar10.as_jpeg(png))).format == "JPEG"


def test_refusals(path, monkeypatch):
    other = path.with_name("other.npz")
    for content in (b"", b"PK\3\4", b"nothing"):
        other.write_bytes(content)
        with pytest.raises(InputError, match=r"other.npz is not from python -m benchmarks.encoded_cifar10"):
            encoded_cifar10.read(other)
    np.savez(other, train_bytes=np.zeros(3, np.uint8))
    with pytest.raises(InputError, match=r"other.npz is not from python -m benchmarks.encoded_cifar10"):
        encoded_cifar10.read(other)
    images = {split: [bytes(4)] * len(labels) for split, labels in LABELS.items()}
    encoded_cifar10.write(other, images, LABELS)
    with pytest.raises(InputError, match=r"other.npz is not from python -m benchmarks.encoded_cifar10"):
        encoded_cifar10.read(other)
    monkeypatch.setattr(encoded_cifar10, "MOST_BYTES", 10)
    with pytest.raises(InputError, match="would have 0 MB, but must have at most 0"):
        encoded_cifar10.write(other, images, LABELS)
