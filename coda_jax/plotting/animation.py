"""Frames of moving pictures beside what their pixels contribute."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from coda_jax.errors import one_line
from coda_jax.plotting.maps import COLOUR_MAP

_LEAST_SIDE = 256
_CAPTION, _GAP = 28, 8


def explained_frame(image: np.ndarray, maps: np.ndarray, captions: Sequence[str], scale: float) -> np.ndarray:
    """One frame, uint8 [H, W, 3], beside its contribution maps [T, H, W], in logits, and their T captions.

    `scale` is the contribution that is drawn in full colour; one for all frames makes colours mean the same in each.
    Returns uint8 [h, w, 3] with even h and w. Each pixel becomes a square, so that the image has at least 256 a side.
    """
    colours = matplotlib.colormaps[COLOUR_MAP](maps / (2 * scale) + 0.5, bytes=True)[..., :3]
    zoom = max(1, -(-_LEAST_SIDE // min(image.shape[:2])))
    panels = [panel.repeat(zoom, 0).repeat(zoom, 1) for panel in (image, *colours)]
    height, width, _ = panels[0].shape
    shape = (len(panels) * (width + _GAP) - _GAP, height + _CAPTION)
    canvas = Image.new("RGB", tuple(side + side % 2 for side in shape), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(16)
    for index, (panel, caption) in enumerate(zip(panels, ("", *captions), strict=True)):
        left = index * (width + _GAP)
        canvas.paste(Image.fromarray(panel), (left, _CAPTION))
        draw.text((left + 4, 4), one_line(caption), fill="black", font=font)
    return np.asarray(canvas)
