"""Classify images and videos, and draw what every pixel contributed.

It prints the most probable classes of each image, what was done to it so that the network can take it, and how its
logit is the sum of what speaks for the class, what speaks against it, and the bias. It draws the contribution maps: red
pixels speak for the class, blue ones against it. GIFs and videos become a GIF or an MP4 with the maps of one class
beside the frames, whose colours mean the same in every frame. A hybrid's maps are of its features' contributions,
upsampled.

With --style=colour the picture shows, in the place of the maps, what each class looks for: in a pixel's colour the one
that its weights ask for, in its opacity how strongly.

For example:
  coda-jax explain runs/cifar10-xs cat.jpg
  coda-jax explain digits seven.png       a network that comes with coda_jax
  coda-jax explain runs/cifar10-xs holiday/ --classes=cat,dog --out=maps
  coda-jax explain runs/cifar10-xs dance.gif
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from coda_jax.data.video import VIDEO_SUFFIXES, Video, open_video, write_video
from coda_jax.errors import InputError, one_line
from coda_jax.explanation import STYLES, ExplainedImages, check_style, class_numbers, explain
from coda_jax.interop.pretrained import Pretrained, load_explainable
from coda_jax.plotting.maps import contribution_scale, explained_frame
from coda_jax.training.progress import Progress

_MOST_PROBABLE = 3
_BATCH = 32
_FRAMES_FOR_THE_SCALE = 64
_FRAMES_BETWEEN_LINES = 10 * _BATCH


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("trained", metavar="RUN", type=Path, help="the directory or name of the trained network")
    parser.add_argument("images", metavar="IMAGE", type=Path, nargs="+", help="images, videos, and folders of them")
    parser.add_argument("--classes", metavar="NAME,...", help="explain these; the most probable ones otherwise")
    parser.add_argument("--style", choices=STYLES, default="map", help="%(default)s otherwise")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("explanations"), help="%(default)s otherwise")


def run(options: argparse.Namespace) -> None:
    """Explain one file after the other; those that cannot be read are named, and the rest is done."""
    files = _files(options.images)
    trained = load_explainable(options.trained)
    check_style(options.style, trained)
    names = options.classes.split(",") if options.classes is not None else []
    targets = list(class_numbers(names, trained.info.class_names))
    options.out.mkdir(parents=True, exist_ok=True)
    explainer = _Explainer(trained, targets, options.out, options.style)
    failed = 0
    for path in files:
        try:
            if video := open_video(path):
                if options.style == "colour":
                    raise InputError(f"{path} is a moving picture: explain it with --style=map")
                explainer.explain_video(path, video)
            else:
                explainer.explain_image(path)
        except InputError as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            failed += 1
    if failed:
        raise InputError(f"{failed} of {len(files)} files could not be explained, as said above")


class _Explainer:
    def __init__(self, trained: Pretrained, targets: list[int], out: Path, style: str):
        self._trained = trained._replace(variables=trained.model.with_gram(trained.variables))
        self._targets, self._out, self._style = targets, out, style
        self._written: set[Path] = set()

    def explain_image(self, path: Path) -> None:
        """Print the classes of an image, and draw their maps."""
        explained = self._explain(path)
        written = self._new_file(path, ".png")
        explained.save(written, self._style)
        print(f"{explained}\n  {written}", flush=True)

    def explain_video(self, path: Path, video: Video) -> None:
        """Write the frames beside their maps, of the class that is the most probable on average or those asked for."""
        started = time.monotonic()
        every = -(-video.count // _FRAMES_FOR_THE_SCALE)
        sample = [self._explain(frames) for frames in _batches(islice(video.frames(), 0, None, every))]
        if not sample:
            raise InputError(f"{path}: the video has no frame that can be read")
        targets = self._targets or [int(np.argmax(np.mean(np.concatenate([part.logits for part in sample]), axis=0)))]
        sample = [part.for_classes([targets] * len(part.images)) for part in sample]
        scale = contribution_scale(np.concatenate([part.contribution_maps for part in sample]))
        names = [one_line(self._trained.info.class_names[target]) for target in targets]
        written = self._new_file(path, ".mp4" if path.suffix.lower() in VIDEO_SUFFIXES else ".gif")
        count = 0

        def drawn() -> Iterator[np.ndarray]:
            nonlocal count
            for frames in _batches(video.frames()):
                explained = self._explain(frames, targets)
                probabilities = explained.probabilities[:, targets]
                for image, maps, of_frame in zip(
                    explained.images, explained.contribution_maps, probabilities, strict=True
                ):
                    captions = [f"{name} {p:.0%}" for name, p in zip(names, of_frame, strict=True)]
                    yield explained_frame(image, maps, captions, scale)
                count += len(frames)
                progress.advance(len(frames))
                if count % _FRAMES_BETWEEN_LINES == 0:
                    progress.tell(f"{one_line(path)}: frame {count} of {video.count}")

        with closing(Progress(video.count, unit="frames")) as progress:
            write_video(written, drawn(), video.rate)
        seconds = time.monotonic() - started
        print(f"{one_line(path)}: {'; '.join(sample[0].preprocessing[0]) or 'taken as it is'}")
        print(f"  {', '.join(names)}: {count} frames in {seconds:.1f} s, {count / seconds:.1f} a second")
        print(f"  {written}, played at {video.rate:.3g} frames a second", flush=True)

    def _explain(self, images: Path | list[Image.Image], targets: Sequence[int] = ()) -> ExplainedImages:
        """The explanation of one file, or of frames, for the classes asked for, or else the most probable ones."""
        targets, top = targets or self._targets, min(_MOST_PROBABLE, len(self._trained.info.class_names))
        count = len(images) if isinstance(images, list) else 1
        return explain(self._trained, images, [targets] * count if targets else None, top=top)

    def _new_file(self, path: Path, suffix: str) -> Path:
        """A name that no file before has been given."""
        name, number = self._out / f"{path.stem}{suffix}", 1
        while name in self._written:
            number += 1
            name = self._out / f"{path.stem}-{number}{suffix}"
        self._written.add(name)
        return name


def _files(paths: Sequence[Path]) -> list[Path]:
    """The files, and the images and videos that are in the folders."""
    suffixes = {*Image.registered_extensions(), *VIDEO_SUFFIXES}
    files = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in suffixes and file.is_file())
            if not inside:
                raise InputError(f"there are no images or videos in the folder {path}")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise InputError(f"there is no image or folder {path}")
    return files


def _batches(frames: Iterator[Image.Image]) -> Iterator[list[Image.Image]]:
    while batch := list(islice(frames, _BATCH)):
        yield batch
