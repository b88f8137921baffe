"""The page of `coda-jax app`, made with Gradio: pictures come in, and what `coda_jax.explain` says of them is shown."""

import html
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio
import numpy as np
from PIL import Image

from coda_jax.contributions import layer_maps
from coda_jax.errors import InputError, one_line
from coda_jax.explanation import UNRECOGNISED, ExplainedImages, explain
from coda_jax.interop.pretrained import Pretrained, load_explainable, trained_directory
from coda_jax.networks.encoding import add_inverse
from coda_jax.plotting.maps import called, colour_table, contribution_scale, overlay

LARGEST = "10mb"
"""Of a file that is uploaded."""

_MOST_SHOWN = 10
_LEAST_SIDE = 320  # Of the pictures, in pixels.
_SECONDS_KEPT = 3600  # Of uploaded pictures and downloads.
_MOST_SESSIONS = 100  # Whose maps are kept in memory.


def launch(
    network: str | os.PathLike | Pretrained,
    host: str = "127.0.0.1",
    port: int = 7860,
    examples: str | os.PathLike | None = None,
) -> None:
    """Serve the page until the program is interrupted.

    `network` is what `coda_jax.explain` takes. With the `host` "127.0.0.1" only this machine's browsers reach the page,
    with "0.0.0.0" all that reach the machine. `examples` is a folder of pictures that can be chosen; None takes the
    folder `examples` beside the network's files, if there is one. No other file of the machine can be read through the
    page. Uploads are at most 10 MB, and are deleted after an hour or two. A network that cannot be explained, a missing
    folder, and a port that is taken raise InputError.
    """
    page = _page(load_explainable(network), _examples(network, examples))
    try:
        page.launch(
            server_name=host,
            server_port=port,
            max_file_size=LARGEST,
            state_session_capacity=_MOST_SESSIONS,
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise InputError(f"port {port} of {host} cannot be had: choose another") from error
    print(f"http://{host}:{port} shows the page; Ctrl-C ends it", flush=True)
    page.block_thread()


def _examples(network: str | os.PathLike | Pretrained, folder: str | os.PathLike | None) -> list[str]:
    """The pictures in a folder, or in that of the network."""
    if folder is not None and not Path(folder).is_dir():
        raise InputError(f"there is no folder {folder}")
    if folder is None and isinstance(network, str | os.PathLike):
        folder = trained_directory(network) / "examples"
    files = sorted(Path(folder).iterdir()) if folder and Path(folder).is_dir() else []
    return [str(file) for file in files if file.suffix.lower() in Image.registered_extensions()]


def _page(network: Pretrained, examples: list[str]) -> gradio.Blocks:
    model, variables, info = network = network._replace(variables=network.model.with_gram(network.variables))
    counts = {name: info.class_names.count(name) for name in info.class_names}
    names = [
        one_line(name) + (f" ({number})" if counts[name] > 1 else "") for number, name in enumerate(info.class_names)
    ]

    def recognise(path: str | None) -> tuple[Any, ...]:
        if path is None:
            return None, "", None, None, None
        try:
            explained = explain(network, path, top=min(2, len(names)))
        except InputError as error:
            raise gradio.Error(one_line(error).replace(path, Path(path).name)) from error
        first, second = explained.targets[0, [0, -1]].tolist()
        probabilities = explained.probabilities[0].tolist()
        verdict = f"{called(names[first])}: {probabilities[first]:.1%}" if explained.recognised[0] else UNRECOGNISED
        done = "; ".join(explained.preprocessing[0]) or "taken as it is"
        return explained, f"{verdict}\n{done}", dict(zip(names, probabilities, strict=True)), first, second

    def compare(explained: ExplainedImages | None, first: int, second: int, opacity: float) -> tuple[Any, ...]:
        if explained is None or first is None or second is None:
            return None, *draw(None, opacity), "", []
        explained = explained.for_classes([[first, second]])
        maps = _with_difference(explained)
        chosen = [names[first], names[second], f"{names[first]} − {names[second]}"]
        inputs = add_inverse(explained.images / np.float32(255))
        layers = []
        for of_layer in layer_maps(model, variables, inputs, explained.targets):
            values = np.asarray(of_layer)[0, 0]
            strength = np.clip(values / contribution_scale(values), -1, 1)
            height, width = values.shape
            picture = _enlarged(colour_table()[np.round(127.5 * (strength + 1)).astype(int)])
            layers.append((picture, f"{height}×{width}: {_signed(values.sum(), 2)}"))
        return explained, *draw(explained, opacity), _sums(explained, maps, chosen), layers

    def draw(explained: ExplainedImages | None, opacity: float) -> list[np.ndarray | None]:
        if explained is None:
            return [None] * 3
        maps = _with_difference(explained)
        return [_enlarged(overlay(explained.images[0], one, contribution_scale(maps), opacity)) for one in maps]

    def read_pixel(explained: ExplainedImages, at: gradio.SelectData) -> str:
        zoom = _zoom(explained.images[0])
        column, row = (int(place) // zoom for place in at.index)
        first, second, difference = (_signed(one[row, column]) for one in _with_difference(explained))
        a, b = (names[target] for target in explained.targets[0])
        return f"row {row + 1}, column {column + 1}: {first} to {a}, {second} to {b}; {difference} for {a} and not {b}"

    def clear() -> list[Any]:
        return ["", *[gradio.update(interactive=False)] * 2]

    def write(explained: ExplainedImages | None) -> Iterator[list[Any]]:
        if explained is None:
            return
        with tempfile.TemporaryDirectory() as directory:  # Gradio has copied the files when it comes back.
            files = [str(Path(directory) / f"explanation{suffix}") for suffix in (".png", ".npz")]
            for file in files:
                explained.save(file)
            yield [gradio.update(value=file, interactive=True) for file in files]

    title = f"Why does {model.title} decide so?"
    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=(_SECONDS_KEPT,) * 2) as page:
        explained = gradio.State()
        gradio.Markdown(
            f"# {title}\nEvery logit is, exactly, a sum of {model.quantity}: red speaks for the class, blue against "
            "it. Drop a picture; choose a class, and another to compare it with; click on a pixel."
        )
        with gradio.Row():
            with gradio.Column(scale=1):
                picture = gradio.Image(
                    label="Picture",
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "clipboard"],
                    buttons=["fullscreen"],
                    elem_id="picture",
                )
                # Gradio would open the file itself, and answer what is no picture with a traceback.
                picture.preprocess = lambda uploaded: uploaded and uploaded.path
                if examples:
                    gradio.Examples(examples, picture)
                verdict = gradio.Textbox(label="What the network says", lines=2, elem_id="verdict")
                classes = gradio.Label(
                    label="Probabilities (each class has its own: they need not sum to 100%)",
                    num_top_classes=_MOST_SHOWN,
                    show_heading=False,
                    elem_id="classes",
                )
            with gradio.Column(scale=3):
                with gradio.Row():
                    choices = list(zip(names, range(len(names)), strict=True))
                    first = gradio.Dropdown(choices, label="Why this", value=None, elem_id="first")
                    second = gradio.Dropdown(choices, label="and not that", value=None, elem_id="second")
                    opacity = gradio.Slider(0, 1, 1, label="Opacity of the maps", elem_id="opacity")
                with gradio.Row():
                    pictures = [
                        gradio.Image(
                            label=label, format="png", interactive=False, buttons=["fullscreen"], elem_id=label
                        )
                        for label in ("this", "that", "difference")
                    ]
                pixel = gradio.Textbox(label="What a pixel says", placeholder="click on one", elem_id="pixel")
                sums = gradio.HTML(elem_id="sums")
                gradio.Markdown("“Why this” by the inputs of the layers: fewer positions, and the same sum")
                layers = gradio.Gallery(
                    show_label=False, format="png", columns=6, height=260, buttons=["fullscreen"], elem_id="layers"
                )
                with gradio.Row():
                    downloads = [
                        gradio.DownloadButton(f"Download as {kind}", interactive=False) for kind in (".png", ".npz")
                    ]
        settings, shown = [explained, first, second, opacity], [explained, *pictures, sums, layers]
        steps = [
            picture.change(recognise, picture, [explained, verdict, classes, first, second]).then(
                compare, settings, shown
            ),
            *(choice.input(compare, settings, shown) for choice in (first, second)),
        ]
        for step in steps:
            step.then(clear, None, [pixel, *downloads]).then(write, explained, downloads)
        opacity.release(draw, [explained, opacity], pictures)
        for one in pictures:
            one.select(read_pixel, explained, pixel)
    return page


def _with_difference(explained: ExplainedImages) -> np.ndarray:
    """The maps of the two classes and what the one has more than the other, [3, H, W]."""
    first, second = explained.contribution_maps[0]
    return np.stack([first, second, first - second])


def _sums(explained: ExplainedImages, maps: np.ndarray, names: list[str]) -> str:
    """A table of how the maps add up to the logits, and their difference to that of the logits."""
    biases = [explained.logit_bias, explained.logit_bias, 0.0]
    positive, negative = np.maximum(maps, 0).sum((1, 2)), np.minimum(maps, 0).sum((1, 2))
    probabilities = [f"{p:.1%}" for p in explained.probabilities[0, explained.targets[0]]]
    rows = {
        "": [html.escape(name) for name in names],
        "what speaks for it": [_signed(value, 3) for value in positive],
        "what speaks against it": [_signed(value, 3) for value in negative],
        "bias": [_signed(value, 3) for value in biases],
        "logit": [_signed(value, 3) for value in positive + negative + biases],
        "probability": [*probabilities, ""],
    }
    cells = ("".join(f"<td>{cell}</td>" for cell in (head, *row)) for head, row in rows.items())
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def _signed(value: float, decimals: int = 4) -> str:
    return f"{value:+.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def _zoom(image: np.ndarray) -> int:
    return -(-_LEAST_SIDE // min(image.shape[:2]))


def _enlarged(image: np.ndarray) -> np.ndarray:
    """Each pixel as a square, as browsers would blur it."""
    return image.repeat(_zoom(image), 0).repeat(_zoom(image), 1)
