"""Classify images and videos, and draw what every pixel contributed.

It prints the most probable classes of each image, what was done to it so that the network can take it, and how its
logit is the sum of what speaks for the class, what speaks against it, and the bias. It draws the contribution maps over
the image in grey: red pixels speak for the class, blue ones against it. GIFs and videos become a GIF or an MP4 with the
maps of one class beside the frames, whose colours mean the same in every frame. A hybrid's maps are of its features'
contributions, upsampled.

With --size images are brought to another size than the network was trained on. Larger ones give finer maps, and logits
keep their scale; but objects look larger to the network than those that it knows.

With --style=map the maps stand beside the image. With --style=colour the picture shows, in their place, what each class
looks for: in a pixel's colour the one that its weights ask for, in its opacity how strongly.

With --save-arrays the contributions, logits and images are written to one file that numpy.load reads; all are held in
memory until then. With --json, one document on standard output says what is printed otherwise.

For example:
  coda-jax explain runs/cifar10-xs cat.jpg
  coda-jax explain digits seven.png       a network that comes with coda_jax
  coda-jax explain runs/cifar10-xs holiday/ --classes=cat,dog --out=maps
  coda-jax explain runs/cifar10-xs dance.gif
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from coda_jax.data.video import VIDEO_SUFFIXES, Video, open_video, write_video
from coda_jax.errors import InputError, one_line
from coda_jax.errors.checks import check_whole
from coda_jax.explanation import STYLES, ExplainedImages, check_style, class_numbers, explain
from coda_jax.interop.pretrained import Pretrained, load_explainable
from coda_jax.plotting.maps import called, contribution_scale, explained_frame
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
    parser.add_argument(
        "--size",
        metavar="PIXELS",
        type=int,
        help="bring images to this side, for finer maps; to the training's otherwise",
    )
    parser.add_argument("--style", choices=STYLES, default=STYLES[0], help="%(default)s otherwise")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("explanations"), help="%(default)s otherwise")
    parser.add_argument("--save-arrays", metavar="FILE.npz", type=Path, help="write the arrays of all images, too")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(options: argparse.Namespace) -> None:
    """Explain one file after the other; those that cannot be read are named, and the rest is done."""
    files, errors = _files(options.images)
    if not files:
        raise errors[0]
    if options.save_arrays and options.save_arrays.suffix != ".npz":
        raise InputError(f"--save-arrays={options.save_arrays} must end with .npz")
    if options.size is not None:
        check_whole("--size", options.size)
    trained = load_explainable(options.trained)
    check_style(options.style, trained)
    names = options.classes.split(",") if options.classes is not None else []
    targets = list(class_numbers(names, trained.info.class_names))
    options.out.mkdir(parents=True, exist_ok=True)
    explainer = _Explainer(trained, targets, options)
    count = len(files) + len(errors)
    for error in errors:
        print(f"error: {one_line(error)}", file=sys.stderr)
    for path in files:
        try:
            if video := open_video(path):
                if options.style == "colour":
                    raise InputError(f"{path} is a moving picture: explain it with another --style")
                explainer.explain_video(path, video)
            else:
                explainer.explain_image(path)
        except InputError as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            errors.append(error)
    if options.json:
        print(json.dumps({"network": str(options.trained), "files": explainer.told}, indent=2), flush=True)
    if options.save_arrays:
        explainer.save_arrays(options.save_arrays)
    if errors:
        raise InputError(f"{len(errors)} of {count} files could not be explained, as said above")


class _Explainer:
    def __init__(self, trained: Pretrained, targets: list[int], options: argparse.Namespace):
        self._trained = trained._replace(variables=trained.model.with_gram(trained.variables))
        self._targets, self._options = targets, options
        self._written: set[Path] = set()
        self._explained: list[ExplainedImages] = []
        self.told: list[dict[str, Any]] = []

    def explain_image(self, path: Path) -> None:
        """Print the classes of an image, and draw their maps."""
        explained = self._explain(path)
        written = self._new_file(path, ".png")
        explained.save(written, self._options.style)
        if self._options.save_arrays:
            self._explained.append(explained)
        self._tell(f"{explained}\n  {written}", path, written, **explained.as_entries(0))

    def save_arrays(self, path: Path) -> None:
        """Write the arrays of all images."""
        if not self._explained:
            raise InputError(f"there is nothing to write to {path}: no image was explained")
        fields = {
            name: [getattr(explained, name) for explained in self._explained]
            for name in ("images", "sources", "preprocessing", "logits", "targets", "contributions")
        }
        joined = {
            name: np.concatenate(parts) if isinstance(parts[0], np.ndarray) else tuple(chain(*parts))
            for name, parts in fields.items()
        }
        dataclasses.replace(self._explained[0], **joined).save(path)

    def explain_video(self, path: Path, video: Video) -> None:
        """Write the frames beside their maps, of the class that is the most probable on average or those asked for."""
        started = time.monotonic()
        every = -(-video.count // _FRAMES_FOR_THE_SCALE)
        sample = [self._explain(frames) for frames in _batches(islice(video.frames(), 0, None, every))]
        if not sample:
            raise InputError(f"{path}: the video has no frame that can be read")
        targets = self._targets
        if not targets:
            targets = [int(np.argmax(np.mean(np.concatenate([part.logits for part in sample]), axis=0)))]
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
                    captions = [f"{called(name)}: {p:.0%}" for name, p in zip(names, of_frame, strict=True)]
                    yield explained_frame(image, maps, captions, scale, self._options.style == "overlay")
                count += len(frames)
                progress.advance(len(frames))
                if count % _FRAMES_BETWEEN_LINES == 0:
                    progress.tell(f"{one_line(path)}: frame {count} of {video.count}")

        with closing(Progress(video.count, unit="frames")) as progress:
            write_video(written, drawn(), video.rate)
        seconds = time.monotonic() - started
        done = sample[0].preprocessing[0]
        self._tell(
            f"{one_line(path)}: {'; '.join(done) or 'taken as it is'}\n"
            f"  {', '.join(names)}: {count} frames in {seconds:.1f} s, {count / seconds:.1f} a second\n"
            f"  {written}, played at {video.rate:.3g} frames a second",
            path, written, preprocessing=done, frames=count, classes=names,
        )  # fmt: skip

    def _tell(self, text: str, path: Path, written: Path, **entries: Any) -> None:
        """Print the text, or keep what it says for the JSON document."""
        if self._options.json:
            self.told.append({"file": str(path), **entries, "written": str(written)})
        else:
            print(text, flush=True)

    def _explain(self, images: Path | list[Image.Image], targets: Sequence[int] = ()) -> ExplainedImages:
        """The explanation of one file, or of frames, for the classes asked for, or else the most probable ones."""
        targets, top = targets or self._targets, min(_MOST_PROBABLE, len(self._trained.info.class_names))
        count = len(images) if isinstance(images, list) else 1
        asked = [targets] * count if targets else None
        return explain(self._trained, images, asked, top=top, size=self._options.size)

    def _new_file(self, path: Path, suffix: str) -> Path:
        """A name that no file before has been given."""
        name, number = self._options.out / f"{path.stem}{suffix}", 1
        while name in self._written:
            number += 1
            name = self._options.out / f"{path.stem}-{number}{suffix}"
        self._written.add(name)
        return name


def _files(paths: Sequence[Path]) -> tuple[list[Path], list[InputError]]:
    """The files, and the images and videos that are in the folders; and what is wrong with the other paths."""
    suffixes = {*Image.registered_extensions(), *VIDEO_SUFFIXES}
    files, errors = [], []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in suffixes and file.is_file())
            files += inside
            if not inside:
                errors.append(InputError(f"there are no images or videos in the folder {path}"))
        elif path.exists():
            files.append(path)
        else:
            errors.append(InputError(f"there is no image or folder {path}"))
    return files, errors


def _batches(frames: Iterator[Image.Image]) -> Iterator[list[Image.Image]]:
    while batch := list(islice(frames, _BATCH)):
        yield batch
