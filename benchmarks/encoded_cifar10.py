"""Put CIFAR-10 into one small file, for machines that have neither TFDS nor grain.

python -m benchmarks.encoded_cifar10 --data_dir=DIR [--out=runs/cifar10.npz]

DIR is where `coda_jax.data.load("cifar10", DIR)` prepared the data set. The file holds the images as JPEGs: those of
the data set where they are JPEGs already, else of quality 90, in which small differences of colour are lost. It must
have at most 54 MB; deflate removes the JPEGs' headers, which are all alike.
"""

import argparse
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from coda_jax.errors import InputError, one_line

MOST_BYTES = 54_000_000
SPLITS = ("train", "test")

Examples = dict[str, np.ndarray]
"""{"image": uint8 [n, H, W, RGB=3], "label": int32 [n]}, as `coda_jax.training.fit` takes them."""


def write(path: Path, images: dict[str, Sequence[bytes]], labels: dict[str, Sequence[int]]) -> None:
    """Write a file that `read` reads; raises InputError if it would be larger than 54 MB.

    Args:
        path: of the file.
        images: the encoded images of each of the `SPLITS`.
        labels: their classes.
    """
    arrays = {}
    for split in SPLITS:
        arrays[f"{split}_bytes"] = np.frombuffer(b"".join(images[split]), np.uint8)
        arrays[f"{split}_ends"] = np.cumsum([len(image) for image in images[split]])
        arrays[f"{split}_label"] = np.array(labels[split], np.int32)
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    size = file.getbuffer().nbytes
    if size > MOST_BYTES:
        raise InputError(f"{path} would have {size / 1e6:.0f} MB, but must have at most {MOST_BYTES / 1e6:.0f}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.getbuffer())


def read(path: Path) -> tuple[Examples, Examples]:
    """The training and the test examples, decoded by OpenCV, or by Pillow where OpenCV is missing.

    Raises InputError where `write` did not write the file.
    """
    try:
        with np.load(path) as arrays:
            train, test = (
                {
                    "image": np.stack([_decoded(image) for image in np.split(arrays[f"{split}_bytes"], ends[:-1])]),
                    "label": arrays[f"{split}_label"],
                }
                for split in SPLITS
                for ends in [arrays[f"{split}_ends"]]
            )
    except (EOFError, KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not from python -m benchmarks.encoded_cifar10: {one_line(error)}") from error
    return train, test


def _decoded(encoded: np.ndarray) -> np.ndarray:
    try:
        import cv2
    except ModuleNotFoundError:
        from PIL import Image

        return np.asarray(Image.open(io.BytesIO(encoded.tobytes())))
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("an image is damaged")
    return image[..., ::-1]


def as_jpeg(encoded: bytes) -> bytes:
    """The image as a JPEG file: the file itself if it is one, else one of quality 90."""
    if encoded.startswith(b"\xff\xd8"):
        return encoded
    from PIL import Image

    file = io.BytesIO()
    Image.open(io.BytesIO(encoded)).save(file, "jpeg", quality=90)
    return file.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the file, and say how large it is.

    Args:
        arguments: of the command line; None for those that the program was started with.
    """
    import tensorflow_datasets as tfds

    from coda_jax.data.prepared import open_sources

    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoded_cifar10", description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path("runs/cifar10.npz"), metavar="FILE", help="runs/cifar10.npz")
    options = parser.parse_args(arguments)
    prepared = options.data_dir / "cifar10" / "3.0.2"
    *sources, _ = open_sources(prepared, "CIFAR-10", SPLITS, {"image": tfds.decode.SkipDecoding()})
    images, labels = {}, {}
    for split, source in zip(SPLITS, sources, strict=True):
        examples = [source[i] for i in range(len(source))]
        images[split] = [as_jpeg(example["image"]) for example in examples]
        labels[split] = [int(example["label"]) for example in examples]
    write(options.out, images, labels)
    print(f"wrote {options.out}, {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
