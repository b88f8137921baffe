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

import jax
import numpy as np
from PIL import Image

from coda_jax.command_line.trained import load_explainable
from coda_jax.contributions import contribution_map, explain, linear_weights, upsampled_map
from coda_jax.data.preprocessing import prepare, read_image
from coda_jax.data.video import VIDEO_SUFFIXES, Video, open_video, write_video
from coda_jax.encoding import add_inverse
from coda_jax.errors import InputError, one_line
from coda_jax.interop.pretrained import Pretrained
from coda_jax.networks.hybrid import HybridNet
from coda_jax.plotting.maps import colour_explanation, contribution_scale, explained_frame, explanation, terms
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
    parser.add_argument("--style", choices=("map", "colour"), default="map", help="%(default)s otherwise")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("explanations"), help="%(default)s otherwise")


def run(options: argparse.Namespace) -> None:
    """Explain one file after the other; those that cannot be read are named, and the rest is done."""
    files = _files(options.images)
    trained = load_explainable(options.trained)
    if options.style == "colour" and isinstance(trained.model, HybridNet):
        raise InputError(
            f"{options.trained} is a hybrid, whose weights are of features and have no colour: explain "
            "it with --style=map"
        )
    targets = _class_numbers(options.classes, trained.info.class_names)
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
        self._model, variables, self._info = trained
        self._variables = self._model.with_gram(variables)
        self._targets, self._out, self._style = targets, out, style
        self._written: set[Path] = set()

    def explain_image(self, path: Path) -> None:
        """Print the classes of an image, and draw their maps."""
        image, done = read_image(path, self._info.preprocessing)
        logits, targets, maps = (array[0] for array in self._explain(image[None], self._targets))
        names = [one_line(self._info.class_names[target]) for target in targets]
        written = self._new_file(path, ".png")
        pictures = self._colours(image, targets) if self._style == "colour" else ()
        bias, quantity = self._model.logit_bias, self._model.quantity
        explanation(written, image, maps, names, logits[targets], bias, quantity, pictures)
        print(f"{one_line(path)}: {'; '.join(done) or 'taken as it is'}")
        for name, logit, contributed in zip(names, logits[targets], maps, strict=True):
            print(f"  {jax.nn.sigmoid(logit):6.1%}  {name}  logit {terms(contributed, self._model.logit_bias)}")
        print(f"  {written}", flush=True)

    def _colours(self, image: np.ndarray, targets: np.ndarray) -> list[np.ndarray]:
        """The pictures [H, W, 4] of an image, uint8 [H, W, 3], for the classes [T]."""
        inputs = add_inverse(image[None] / np.float32(255))
        rows = linear_weights(self._model, self._variables, inputs, targets[None])
        return [colour_explanation(inputs[0], np.asarray(row)) for row in rows[0]]

    def explain_video(self, path: Path, video: Video) -> None:
        """Write the frames beside their maps, of the class that is the most probable on average or those asked for."""
        started = time.monotonic()
        every = -(-video.count // _FRAMES_FOR_THE_SCALE)
        sample = list(self._batches(islice(video.frames(), 0, None, every)))
        if not sample:
            raise InputError(f"{path}: the video has no frame that can be read")
        done = prepare(next(video.frames()), self._info.preprocessing)[1]
        targets = self._targets
        if not targets:
            logits = np.concatenate([self._explain(images, targets)[0] for images in sample])
            targets = [int(np.argmax(np.mean(logits, axis=0)))]
        scale = contribution_scale(np.concatenate([self._explain(images, targets)[2] for images in sample]))
        names = [one_line(self._info.class_names[target]) for target in targets]
        written = self._new_file(path, ".mp4" if path.suffix.lower() in VIDEO_SUFFIXES else ".gif")
        count = 0

        def explained() -> Iterator[np.ndarray]:
            nonlocal count
            for images in self._batches(video.frames()):
                for image, logits, _, maps in zip(images, *self._explain(images, targets), strict=True):
                    probabilities = np.asarray(jax.nn.sigmoid(logits[targets]))
                    captions = [f"{name} {p:.0%}" for name, p in zip(names, probabilities, strict=True)]
                    yield explained_frame(image, maps, captions, scale)
                count += len(images)
                progress.advance(len(images))
                if count % _FRAMES_BETWEEN_LINES == 0:
                    progress.tell(f"{one_line(path)}: frame {count} of {video.count}")

        with closing(Progress(video.count, unit="frames")) as progress:
            write_video(written, explained(), video.rate)
        seconds = time.monotonic() - started
        print(f"{one_line(path)}: {'; '.join(done) or 'taken as it is'}")
        print(f"  {', '.join(names)}: {count} frames in {seconds:.1f} s, {count / seconds:.1f} a second")
        print(f"  {written}, played at {video.rate:.3g} frames a second", flush=True)

    def _explain(self, images: np.ndarray, targets: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Logits [n, K], classes [n, T] and maps [n, T, H, W] of images uint8 [n, H, W, 3].

        The classes are the targets [T], or the most probable ones where there are none.
        """
        count, top = len(images), min(_MOST_PROBABLE, self._model.channels[-1])
        if count > 1:  # Batches are filled up with the last image, so that only two sizes are compiled.
            images = np.concatenate([images, images[-1:].repeat(_BATCH - count, 0)])
        every = np.broadcast_to(targets, (len(images), len(targets))) if targets else None
        inputs = add_inverse(images / np.float32(255))
        logits, classes, attributions = explain(self._model, self._variables, inputs, every, top=top)
        maps = upsampled_map(contribution_map(attributions), images.shape[1:3])
        return tuple(np.asarray(array)[:count] for array in (logits, classes, maps))

    def _batches(self, frames: Iterator[Image.Image]) -> Iterator[np.ndarray]:
        """Images uint8 [n, H, W, 3]."""
        while batch := [prepare(frame, self._info.preprocessing)[0] for frame in islice(frames, _BATCH)]:
            yield np.stack(batch)

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


def _class_numbers(names: str | None, class_names: Sequence[str]) -> list[int]:
    """The numbers of the classes in a text such as "cat,dog"; none for None."""
    chosen = names.split(",") if names is not None else []
    for name in chosen:
        if name not in class_names:
            known = ", ".join(map(one_line, class_names[:20])) + (", ..." if len(class_names) > 20 else "")
            raise InputError(f"there is no class {name!r}: choose among {known}")
    return [class_names.index(name) for name in chosen]
