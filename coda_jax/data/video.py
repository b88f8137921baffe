"""Moving pictures: the frames of GIFs and of videos, and files of both."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from PIL import Image, ImageSequence

from coda_jax.errors import InputError, one_line

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
"""Those of files that FFmpeg opens; animated GIF, PNG and WebP files are opened by Pillow."""


class Video(NamedTuple):
    """Frames in time: `frames()` yields them from the first on, `count` as the file says, and `rate` a second."""

    frames: Callable[[], Iterator[Image.Image]]
    count: int
    rate: float


def open_video(path: str | os.PathLike) -> Video | None:
    """The frames of a file, or None if it is not a moving picture; raises InputError for a video that is damaged.

    Of a damaged animated picture, only the frames before the damage count.
    """
    if Path(path).suffix.lower() in VIDEO_SUFFIXES:
        try:
            with av.open(path) as file:
                stream = file.streams.video[0]
                rate = float(stream.average_rate or 0)
                count = stream.frames or round((file.duration or 0) / av.time_base * rate)  # Some files do not count.
        except (av.FFmpegError, IndexError):  # No video, or one without pictures.
            count = rate = 0
        if count < 1 or not 0 < rate < 1000:
            raise InputError(f"{os.fspath(path)}: not a video that FFmpeg can read")
        return Video(lambda: _of_video(path), count, rate)
    durations = []
    with contextlib.suppress(Exception), Image.open(path) as image:  # Damaged files make Pillow raise many kinds.
        if getattr(image, "n_frames", 1) == 1:
            return None
        for frame in ImageSequence.Iterator(image):
            frame.load()  # Of WebP files, this alone gives the duration.
            durations.append(frame.info.get("duration", 0))
    if len(durations) < 2:  # A still picture, or no picture, which whoever reads it as one will say.
        return None
    # Browsers take 100 ms where a file says 0.
    return Video(lambda: _of_image(path), len(durations), 1000 / (np.mean(durations) or 100))


def write_video(path: str | os.PathLike, frames: Iterable[np.ndarray], rate: float) -> None:
    """Write a GIF, or an MP4 (H.264), of `rate` frames a second, as the suffix `.gif` or `.mp4` says.

    Frames are uint8 [H, W, RGB=3], at least one; for `.mp4` with even H and W. Raises InputError if an MP4 cannot be
    written, as where the directory is missing.
    """
    frames = iter(frames)
    first = next(frames)
    if Path(path).suffix == ".gif":
        rest = (Image.fromarray(frame) for frame in frames)
        duration = min(1000 / rate, 655_350)  # The longest that a GIF can say.
        Image.fromarray(first).save(path, save_all=True, append_images=rest, duration=duration, loop=0)
        return
    try:
        with av.open(path, "w") as file:
            stream = file.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001))
            stream.height, stream.width, _ = first.shape
            stream.pix_fmt = "yuv420p"  # Which all browsers play.
            for frame in chain([first], frames):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            file.mux(stream.encode())
    except av.FFmpegError as error:
        raise InputError(f"cannot write {os.fspath(path)}: {one_line(error)}") from error


def _of_video(path: str | os.PathLike) -> Iterator[Image.Image]:
    """The frames as they are to be seen, up to one that is damaged."""
    with contextlib.suppress(av.FFmpegError), av.open(path) as file:
        for frame in file.decode(video=0):
            yield frame.to_image().rotate(frame.rotation, expand=True)  # Phones film upright, and store it lying.


def _of_image(path: str | os.PathLike) -> Iterator[Image.Image]:
    """The frames up to one that is damaged."""
    with contextlib.suppress(Exception), Image.open(path) as image:
        for frame in ImageSequence.Iterator(image):
            yield frame.copy()
