"""Random changes of training images."""

from dataclasses import dataclass
from typing import Any

import grain
import numpy as np
from PIL import Image, ImageEnhance


@dataclass(frozen=True)
class RandomFlipAndCrop(grain.transforms.RandomMap):
    """The paper's augmentation: mirror half of the images left to right if `flip`, and crop each at random.

    `padding` pixels of zeros are added on each side first. A crop is `size`×`size`, or for None as large as the image.
    """

    flip: bool
    padding: int
    size: int | None = None

    def random_map(self, element: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """{"image": [H, W, C], ...} -> the same with another image, [size, size, C] or [H, W, C], of the same dtype."""
        image = element["image"]
        height, width = image.shape[:2] if self.size is None else (self.size, self.size)
        if self.flip and rng.random() < 0.5:
            image = image[:, ::-1]
        padded = np.pad(image, ((self.padding, self.padding), (self.padding, self.padding), (0, 0)))
        top = rng.integers(0, padded.shape[0] - height, endpoint=True)
        left = rng.integers(0, padded.shape[1] - width, endpoint=True)
        return {**element, "image": padded[top : top + height, left : left + width]}


@dataclass(frozen=True)
class RandomResizedCrop(grain.transforms.RandomMap):
    """A rectangle anywhere in each image, resized to `size`×`size`: of a random area, and up to a third wider than high
    or higher than wide.

    Its area is a share of the image's that is drawn evenly between `scale` and 1. Sides that would be longer than the
    image's are as long as these.

    Source: C. Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, arXiv 1409.4842, section 6.
    """

    scale: float
    size: int

    def random_map(self, element: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """{"image": uint8 [H, W, RGB=3], ...} -> the same with another image, [size, size, 3]."""
        image = Image.fromarray(element["image"])
        area = rng.uniform(self.scale, 1) * image.width * image.height
        aspect = np.exp(rng.uniform(-1, 1) * np.log(4 / 3))
        width = min(image.width, (area * aspect) ** 0.5)
        height = min(image.height, (area / aspect) ** 0.5)
        left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
        box = (left, top, left + width, top + height)
        resized = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box)
        return {**element, "image": np.asarray(resized)}


@dataclass(frozen=True)
class RandomColour(grain.transforms.RandomMap):
    """Multiply each image's brightness, contrast and saturation by factors between 1 - `strength` and 1 + `strength`.

    Source: A. Howard, "Some Improvements on Deep Convolutional Neural Network Based Image Classification", 2013, arXiv
    1312.5402, section 2.
    """

    strength: float

    def random_map(self, element: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """{"image": uint8 [H, W, RGB=3], ...} -> the same with another image of the same shape."""
        image = Image.fromarray(element["image"])
        for quantity in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = quantity(image).enhance(1 + rng.uniform(-self.strength, self.strength))
        return {**element, "image": np.asarray(image)}
