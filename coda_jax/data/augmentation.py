"""Random changes of training images."""

from dataclasses import dataclass
from typing import Any

import grain
import numpy as np


@dataclass(frozen=True)
class RandomFlipAndCrop(grain.transforms.RandomMap):
    """Mirror half of the images, and crop each at random from its zero-padded self: the paper's augmentation.

    Attributes:
        flip: whether to mirror left and right.
        padding: zeros added on each side before the crop, in pixels; 0 for no crop.
    """

    flip: bool
    padding: int

    def random_map(self, element: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """{"image": [H, W, C], ...} -> the same with another image of the same shape and dtype."""
        image = element["image"]
        height, width, _ = image.shape
        if self.flip and rng.random() < 0.5:
            image = image[:, ::-1]
        top, left = rng.integers(0, 2 * self.padding, size=2, endpoint=True)
        padded = np.pad(image, ((self.padding, self.padding), (self.padding, self.padding), (0, 0)))
        return {**element, "image": padded[top : top + height, left : left + width]}
