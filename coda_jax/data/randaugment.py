"""RandAugment: two random changes of an image, of fourteen, with one magnitude for all.

The operations, each as likely as any other, are the paper's; magnitudes are on its scale from 0 to 10, where
AutoAugment's ranges end. As in later implementations, changes grow from none at magnitude 0; and colour, contrast,
brightness and sharpness are lowered as often as raised. Identity, autocontrast and equalise have no magnitude.

Sources: E. Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search space", CVPR
Workshops 2020, arXiv 1909.13719, and "AutoAugment: Learning Augmentation Policies from Data", CVPR 2019, 1805.09501.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np
from PIL import Image, ImageEnhance, ImageOps

OPERATIONS_PER_IMAGE = 2
LARGEST_MAGNITUDE = 10
_GREY = (128, 128, 128)  # For pixels that come from outside of the image.
_FARTHEST = 150 / 331  # AutoAugment's images have 331 pixels, and are moved by up to 150.


def _enhance(kind: type) -> Callable[[Image.Image, float], Image.Image]:
    return lambda image, strength: kind(image).enhance(1 + 0.9 * strength)


def _affine(image: Image.Image, across: tuple[float, ...], down: tuple[float, ...]) -> Image.Image:
    """The image whose pixel at (x, y) is the given one's at (across · (x, y, 1), down · (x, y, 1))."""
    return image.transform(image.size, Image.Transform.AFFINE, (*across, *down), fillcolor=_GREY)


OPERATIONS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "identity": lambda image, strength: image,
    "autocontrast": lambda image, strength: ImageOps.autocontrast(image),
    "equalize": lambda image, strength: ImageOps.equalize(image),
    "rotate": lambda image, strength: image.rotate(30 * strength, fillcolor=_GREY),
    "solarize": lambda image, strength: ImageOps.solarize(image, round(256 * (1 - abs(strength)))),
    "color": _enhance(ImageEnhance.Color),
    "posterize": lambda image, strength: ImageOps.posterize(image, 8 - round(4 * abs(strength))),
    "contrast": _enhance(ImageEnhance.Contrast),
    "brightness": _enhance(ImageEnhance.Brightness),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "shear_x": lambda image, strength: _affine(image, (1, 0.3 * strength, 0), (0, 1, 0)),
    "shear_y": lambda image, strength: _affine(image, (1, 0, 0), (0.3 * strength, 1, 0)),
    "translate_x": lambda image, strength: _affine(image, (1, 0, _FARTHEST * strength * image.width), (0, 1, 0)),
    "translate_y": lambda image, strength: _affine(image, (1, 0, 0), (0, 1, _FARTHEST * strength * image.height)),
}
"""From an RGB image and a strength between -1 and 1 to an image of the same size."""


@dataclass(frozen=True)
class RandAugment(grain.transforms.RandomMap):
    """Change each image by two operations drawn at random, of one magnitude from 0 to 10, in random directions."""

    magnitude: int

    def random_map(self, element: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """{"image": uint8 [H, W, RGB=3], ...} -> the same with another image of the same shape."""
        image = Image.fromarray(element["image"])
        operations = tuple(OPERATIONS.values())
        for index in rng.integers(len(operations), size=OPERATIONS_PER_IMAGE):
            strength = self.magnitude / LARGEST_MAGNITUDE * rng.choice((-1, 1))
            image = operations[index](image, strength)
        return {**element, "image": np.asarray(image)}
