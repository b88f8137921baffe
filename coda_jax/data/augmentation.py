"""Random changes of training images."""

from dataclasses import dataclass
from typing import Any

import grain
import numpy as np


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
