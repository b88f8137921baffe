"""Small JPEG files of real photographs, for archives like the official ones."""

import io

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images


def cuttings(count, width, height):
    """RGB images cut at random from scikit-learn's two sample photographs."""
    rng = np.random.default_rng(0)
    photographs = load_sample_images().images
    for index in range(count):
        photograph = photographs[index % 2]
        top, left = rng.integers(0, (photograph.shape[0] - height, photograph.shape[1] - width))
        yield Image.fromarray(photograph[top : top + height, left : left + width])


def encoded(image, kind="JPEG"):
    """The content of an image file."""
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()
