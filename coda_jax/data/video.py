"""Moving pictures: the frames of GIFs and of videos, and files of both."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageSequence

from coda_jax.errors import InputError

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
"""Of the files that OpenCV opens; animated GIF, PNG and WebP files are opened by Pillow."""


class Video(NamedTuple):
    """Frames in time.

    Attributes:
        frames: yields them from the first one on, whenever it is called.
        count: their number, as the file says.
        rate: frames a second.
    """

    frames: Callable[[], Iterator[Image.Image]]
    count: int
    rate: float


def open_video(path: str | os.PathLike) -> Video | None:
    """The frames of a file, or None if it is not a moving picture.

    Raises:
        InputError: a video that cannot be opened.
    """
    if Path(path).suffix.lower() in VIDEO_SUFFIXES:
        capture = cv2.VideoCapture(os.fspath(path))
        count, rate = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), capture.get(cv2.CAP_PROP_FPS)
        if not capture.isOpened() or count < 1 or not 0 < rate < 1000:
            raise InputError(f"{os.fspath(path)}: not a video that OpenCV can read")
        return Video(lambda: _of_video(path), count, rate)
    try:
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) == 1:
                return None
            durations = [frame.info.get("duration", 0) for frame in ImageSequence.Iterator(image)]
    except OSError:  # It is no image, which whoever reads it as one will say.
        return None
    # Browsers take 100 ms where a file says 0.
    return Video(lambda: _of_image(path), len(durations), 1000 / (np.mean(durations) or 100))


def write_video(path: str | os.PathLike, frames: Iterable[np.ndarray], rate: float) -> None:
    """Write a GIF or an MP4, as the suffix says.

    Args:
        path: of the file, with the suffix `.gif` or `.mp4`.
        frames: uint8 [H, W, RGB=3], at least one; for `.mp4` with even H and W.
        rate: frames a second.

    Raises:
        InputError: OpenCV cannot write videos here.
    """
    frames = iter(frames)
    first = next(frames)
    if Path(path).suffix == ".gif":
        rest = (Image.fromarray(frame) for frame in frames)
        Image.fromarray(first).save(path, save_all=True, append_images=rest, duration=1000 / rate, loop=0)
        return
    height, width, _ = first.shape
    writer = cv2.VideoWriter(os.fspath(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
    if not writer.isOpened():
        raise InputError(f"cannot write {os.fspath(path)}: OpenCV has no encoder for it, or the directory is missing")
    writer.write(cv2.cvtColor(first, cv2.COLOR_RGB2BGR))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()


def _of_video(path: str | os.PathLike) -> Iterator[Image.Image]:
    capture = cv2.VideoCapture(os.fspath(path))
    while True:
        there, frame = capture.read()
        if not there:
            return
        yield Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))


def _of_image(path: str | os.PathLike) -> Iterator[Image.Image]:
    with Image.open(path) as image:
        for frame in ImageSequence.Iterator(image):
            yield frame.copy()
