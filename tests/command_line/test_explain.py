import json
import re

import jax
import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image
from scipy.special import expit

from coda_jax import add_inverse, explain, load
from coda_jax.data.video import open_video, write_video

RANDOM = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 3), np.uint8)


def save(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def test_an_image(trained, command, tmp_path):
    path = save(tmp_path / "one.png", RANDOM[0])
    status, out, err = command("explain", trained, path, "--out", tmp_path / "out")
    assert status == 0, err
    first, *classes, last = (line for line in out.splitlines() if not line.startswith("  no class is above"))
    assert first == f"{path}: taken as it is" and last == f"  {tmp_path / 'out' / 'one.png'}"
    assert imread(tmp_path / "out" / "one.png").ndim == 3
    model, variables, _ = load(trained)
    logits = np.asarray(jax.jit(model.apply)(variables, add_inverse(RANDOM[:1] / np.float32(255))))[0]
    order = np.argsort(-logits)
    # An escape sequence in a name is not for the terminal to obey.
    names = [("cat", "dog", "<b>\N{REPLACEMENT CHARACTER}[31m")[target] for target in order]
    for line, name, logit in zip(classes, names, logits[order], strict=True):
        terms = r"logit ([\d.]+) − ([\d.]+) − 2.20 = (−?[\d.]+)"
        probability, found, *numbers = re.fullmatch(rf" +([\d.]+)%  (.*)  {terms}", line).groups()
        positive, negative, told = (float(number.replace("−", "-")) for number in numbers)
        # All are rounded to the last digit that is told.
        assert found == name and abs(float(probability) - 100 * expit(logit)) < 0.051
        assert abs(told - logit) < 0.0051 and abs(positive - negative - 2.20 - told) < 0.0201


def test_chosen_classes_and_folders(trained, command, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("b.png", "a.jpg"):
        save(folder / name, RANDOM[1].repeat(2, 0))
    (folder / "notes.txt").write_text("no image")
    (tmp_path / "other").mkdir()
    other = save(tmp_path / "other" / "a.png", RANDOM[2])
    status, out, err = command("explain", trained, folder, other, "--classes=dog", "--out", tmp_path / "out")
    assert status == 0, err
    assert re.findall(r"^  [ \d.]+%  (\w+)", out, re.MULTILINE) == ["dog"] * 3
    assert "a.jpg: cropped to the centre, 8×8 of 8×16 pixels\n" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a-2.png", "a.png", "b.png"]


def test_another_size(trained, command, tmp_path):
    path = save(tmp_path / "one.png", RANDOM[0])
    status, out, err = command("explain", trained, path, "--size=16", "--json", "--out", tmp_path / "out")
    assert status == 0, err
    divided = "contributions divided by 4, as the training's images had 8×8 pixels"
    assert json.loads(out)["files"][0]["preprocessing"] == ["enlarged from 8×8 to 16×16 pixels", divided]
    status, out, err = command("explain", trained, path, "--size=0", "--out", tmp_path / "other")
    assert (status, err) == (1, "error: --size must be at least 1, not 0\n") and not (tmp_path / "other").exists()


@pytest.mark.parametrize("network", ["hybrid", "bcos"])
def test_other_networks(network, request, command, tmp_path):
    workdir = request.getfixturevalue(network)
    path = save(tmp_path / "one.png", RANDOM[0])
    status, out, err = command("explain", workdir, path, "--classes=dog", "--out", tmp_path / "out")
    assert status == 0, err
    model, variables, _ = load(workdir)
    logit = jax.jit(model.apply)(variables, add_inverse(RANDOM[:1] / np.float32(255)))[0, 1]
    told = re.search(r"  dog  logit .* = (−?[\d.]+)$", out, re.MULTILINE)[1]
    assert abs(float(told.replace("−", "-")) - logit) < 0.0051  # Rounded to the last digit that is told.
    assert imread(tmp_path / "out" / "one.png").ndim == 3


def test_styles(trained, command, tmp_path):
    path, pictures = save(tmp_path / "one.png", RANDOM[0]), []
    for style in ("colour", "map", "overlay"):
        chosen = [f"--style={style}"] if style != "overlay" else []
        status, _, err = command("explain", trained, path, *chosen, "--out", tmp_path / style)
        assert status == 0, err
        explain(trained, path, top=3).save(tmp_path / "expected.png", style)
        pictures.append(imread(tmp_path / style / "one.png"))
        np.testing.assert_array_equal(pictures[-1], imread(tmp_path / "expected.png"))
        assert all((picture != pictures[-1]).any() for picture in pictures[:-1])


def test_for_programs(trained, command, tmp_path):
    paths = [save(tmp_path / f"{name}.png", RANDOM[index]) for index, name in enumerate(("one", "two"))]
    write_video(tmp_path / "moving.gif", RANDOM[:3], rate=20)
    arguments = (trained, *paths, tmp_path / "moving.gif", "--out", tmp_path / "out", "--classes=dog,cat")
    status, out, err = command("explain", *arguments, "--json", "--save-arrays", tmp_path / "arrays.npz")
    assert (status, err) == (0, "")
    told = json.loads(out)
    assert told["network"] == str(trained)
    expected = explain(trained, paths, [["dog", "cat"]] * 2)
    for index, entry in enumerate(told["files"][:2]):
        assert entry["file"] == str(paths[index]) and entry["written"] == str(tmp_path / "out" / paths[index].name)
        assert entry["recognised"] == expected.recognised[index]
        assert entry["preprocessing"] == [] and [of_class["name"] for of_class in entry["classes"]] == ["dog", "cat"]
        for number, of_class in zip((1, 0), entry["classes"], strict=True):
            assert of_class["number"] == number
            assert of_class["logit"] == pytest.approx(float(expected.logits[index, number]), rel=1e-4)
            assert of_class["probability"] == pytest.approx(1 / (1 + np.exp(-of_class["logit"])), rel=1e-4)
            assert of_class["positive"] > 0 > of_class["negative"]
            sum_ = of_class["positive"] + of_class["negative"] + entry["logit_bias"]
            assert sum_ == pytest.approx(of_class["logit"], rel=1e-4)
    assert told["files"][2] == {
        "file": str(tmp_path / "moving.gif"),
        "preprocessing": [],
        "frames": 3,
        "classes": ["dog", "cat"],
        "written": str(tmp_path / "out" / "moving.gif"),
    }
    arrays = np.load(tmp_path / "arrays.npz")
    assert arrays["sources"].tolist() == [str(path) for path in paths]
    np.testing.assert_array_equal(arrays["images"], RANDOM[:2])
    # Two images at once, and each alone, may be summed in another order.
    np.testing.assert_allclose(arrays["contributions"], expected.contributions, rtol=1e-3, atol=1e-6)


def test_colours_are_for_images_and_networks_of_pixels(hybrid, trained, command, tmp_path):
    path = tmp_path / "moving.gif"
    write_video(path, RANDOM.repeat(4, 1).repeat(4, 2), rate=20)
    for workdir, line in ((hybrid, "a hybrid's weights are of features"), (trained, f"{path} is a moving picture")):
        status, _, err = command("explain", workdir, path, "--style=colour", "--out", tmp_path / "out")
        assert status == 1 and err.startswith(f"error: {line}"), err


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_moving_pictures(trained, command, tmp_path, suffix):
    path = tmp_path / f"moving{suffix}"
    write_video(path, RANDOM.repeat(4, 1).repeat(4, 2), rate=20)
    status, out, err = command("explain", trained, path, "--classes=cat,dog", "--out", tmp_path / "out")
    assert status == 0, err
    written = tmp_path / "out" / path.name
    assert re.fullmatch(
        rf"{path}: reduced from 32×32 to 8×8 pixels\n"
        r"  cat, dog: 40 frames in [\d.]+ s, [\d.]+ a second\n"
        rf"  {written}, played at 20 frames a second\n",
        out,
    )
    video = open_video(written)
    assert (video.count, video.rate) == (40, 20)
    assert next(video.frames()).size == (3 * 256 + 2 * 8, 256 + 28)


def test_captions_of_frames(trained, command, tmp_path, monkeypatch):
    captions, path = [], tmp_path / "moving.gif"

    def explained_frame(image, maps, of_maps, scale, overlaid):
        captions.append(of_maps)
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr("coda_jax.command_line.explain.explained_frame", explained_frame)
    write_video(path, RANDOM[:3], rate=20)
    status, _, err = command("explain", trained, path, "--classes=dog,cat", "--out", tmp_path / "out")
    assert status == 0, err
    model, variables, _ = load(trained)
    frames = np.stack([np.asarray(frame.convert("RGB")) for frame in open_video(path).frames()])
    logits = jax.jit(model.apply)(variables, add_inverse(frames / np.float32(255)))
    assert captions == [[f"dog: {p[1]:.0%}", f"cat: {p[0]:.0%}"] for p in expit(np.asarray(logits))]


def test_what_cannot_be_read_is_named_and_the_rest_is_done(trained, command, tmp_path):
    good = save(tmp_path / "good.png", RANDOM[0])
    (tmp_path / "bad.png").write_text("no image")
    (tmp_path / "bad.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    bad = [tmp_path / name for name in ("bad.png", "none.png", "bad.mp4", "empty")]
    arguments = (*bad, good, "--out", tmp_path / "out")
    status, out, err = command("explain", trained, *arguments)
    assert status == 1 and (tmp_path / "out" / "good.png").exists() and "good.png" in out
    assert err.splitlines() == [
        f"error: there is no image or folder {tmp_path / 'none.png'}",
        f"error: there are no images or videos in the folder {tmp_path / 'empty'}",
        f"error: {tmp_path / 'bad.png'}: not an image that Pillow can read",
        f"error: {tmp_path / 'bad.mp4'}: not a video that FFmpeg can read",
        "error: 4 of 5 files could not be explained, as said above",
    ]


def test_mistakes_are_answered_before_anything_is_written(trained, command, tmp_path):
    image, out = save(tmp_path / "one.png", RANDOM[0]), tmp_path / "out"
    (tmp_path / "empty").mkdir()
    for arguments, line in (
        ((trained, tmp_path / "none.png"), f"there is no image or folder {tmp_path / 'none.png'}"),
        ((trained, tmp_path / "empty"), f"there are no images or videos in the folder {tmp_path / 'empty'}"),
        ((tmp_path, image), f"there is no run in {tmp_path}: it has no config.json"),
        ((trained, image, "--classes=cat,dgo"), "there is no class 'dgo': choose among cat, dog, <b>"),
        ((trained, image, "--save-arrays=maps.npy"), "--save-arrays=maps.npy must end with .npz"),
        ((trained,), "the following arguments are required: IMAGE; see coda-jax explain --help"),
    ):
        status, told, err = command("explain", *arguments, "--out", out)
        assert (status, told) == (1, "") and err.startswith(f"error: {line}") and err.count("\n") == 1
        assert not out.exists()
