"""How any image becomes one of the kind that a network was trained on."""

import os

import numpy as np
from PIL import Image, ImageOps

from coda_jax.data.description import Preprocessing
from coda_jax.errors import InputError, one_line


def prepare(image: Image.Image, preprocessing: Preprocessing) -> tuple[np.ndarray, tuple[str, ...]]:
    """The centre of an image of any size and mode, and what was done to get it.

    The centre is uint8 [size, size, RGB=3]; a phrase describes each change of more than the representation, such as
    "cropped to the centre, 480×480 of 640×480 pixels". A JPEG that has not been loaded is loaded in a reduced size.
    Raises InputError if the image is damaged, or has floating-point pixels, whose range nothing says.
    """
    upright, (width, height), done = _upright(image, preprocessing)
    side = min(width, height) * preprocessing.size / preprocessing.shorter_side
    left, top = (width - side) / 2, (height - side) / 2
    if (left, top) != (0, 0):
        done.append(f"cropped to the centre, {side:.0f}×{side:.0f} of {width}×{height} pixels")
    if side != preprocessing.size:
        change = "reduced" if side > preprocessing.size else "enlarged"
        done.append(f"{change} from {side:.0f}×{side:.0f} to {preprocessing.size}×{preprocessing.size} pixels")
    across, down = upright.width, upright.height
    right, bottom = left + side, top + side
    box = (left * across / width, top * down / height, right * across / width, bottom * down / height)
    square = upright.resize((preprocessing.size,) * 2, Image.Resampling.BICUBIC, box)
    return np.asarray(square.convert("RGB")), tuple(done)


def resize_shorter_side(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """The whole image, uint8 [H, W, RGB=3], resized to `shorter_side`; arguments and errors are those of `prepare`."""
    upright, (width, height), _ = _upright(image, preprocessing)
    scale = preprocessing.shorter_side / min(width, height)
    resized = upright.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    return np.asarray(resized.convert("RGB"))


def _upright(image: Image.Image, preprocessing: Preprocessing) -> tuple[Image.Image, tuple[int, int], list[str]]:
    """The image in 8 bits as it is to be looked at, its width and height in the file, and what was done to it."""
    done = []
    width, height = image.size
    try:
        # A large JPEG is decoded at a half, a quarter or an eighth of its size, in down to a tenth of the time.
        image.draft(None, (2 * preprocessing.shorter_side,) * 2)
        upright = ImageOps.exif_transpose(image)
        orientation = image.getexif().get(0x0112, 1)
    except Exception as error:  # Whatever a damaged file makes of Pillow's decoders.
        raise InputError(f"the image is damaged ({one_line(error)})") from error
    if upright.size != image.size or orientation != 1:
        done.append("turned upright, as its EXIF orientation says")
    if upright.mode == "F":
        raise InputError("the image has floating-point pixels, whose range is unknown: save it with 8 or 16 bits")
    if upright.mode.startswith("I"):
        done.append("reduced from 16 to 8 bits")
        upright = Image.fromarray((np.clip(np.asarray(upright), 0, 65535) / 257).round().astype(np.uint8))
    if upright.has_transparency_data:
        done.append("put on white where it is transparent")
        opaque = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
    if preprocessing.grey and upright.mode not in ("1", "L"):
        done.append("made grey")
    size = (height, width) if orientation in (5, 6, 7, 8) else (width, height)
    return upright.convert("L" if preprocessing.grey else "RGB"), size, done


def read_image(path: str | os.PathLike, preprocessing: Preprocessing) -> tuple[np.ndarray, tuple[str, ...]]:
    """`prepare` an image file; raises InputError, which names the file, where it cannot be read."""
    try:
        with Image.open(path) as image:
            return prepare(image, preprocessing)
    except InputError as error:
        raise InputError(f"{os.fspath(path)}: {error}") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{os.fspath(path)}: {one_line(error)}: save it smaller") from error
    except (OSError, RuntimeError, ValueError) as error:
        # All are Pillow's for damaged files; the first is its for unknown formats, too.
        reason = getattr(error, "strerror", None) or "not an image that Pillow can read"
        raise InputError(f"{os.fspath(path)}: {reason}") from error
