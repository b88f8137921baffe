"""scikit-learn's handwritten digits: 1,797 images of 8×8 pixels, part of the package. `ABOUT` names the source."""

from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

ABOUT = {
    "description": "The handwritten digits that come with scikit-learn (`coda_jax.data.load('digits')`): 1,437 "
    "grey images of 8×8 pixels to train on, and 360 others to test on. Source: E. Alpaydin and C. Kaynak, [Optical "
    "Recognition of Handwritten Digits](https://doi.org/10.24432/C50P49), UCI Machine Learning Repository, 1998.",
    "licence": "CC BY 4.0",
}
"""For the cards of networks that were trained on them."""


def data_sources(data_dir: object = None) -> tuple[list[dict[str, Any]], list[dict[str, Any]], tuple[str, ...]]:
    """1,437 training and 360 test examples, and the class names "0" to "9".

    The split is our own and fixed; both parts have the same share of every class. Images are uint8 [H=8, W=8, RGB=3]
    with three equal channels. `data_dir` is not used.
    """
    pixels, labels = load_digits(return_X_y=True)
    grey = np.round(pixels.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)  # The pixels are counts from 0 to 16.
    images = np.repeat(grey, 3, axis=-1)
    examples = [{"image": image, "label": int(label)} for image, label in zip(images, labels, strict=True)]
    train, test = train_test_split(examples, test_size=360, stratify=labels, random_state=0)
    return train, test, tuple(str(digit) for digit in range(10))
