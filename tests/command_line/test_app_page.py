"""The page as `coda-jax app` serves it, in a real browser."""

import io
import json
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from coda_jax import explain
from coda_jax.explanation import UNRECOGNISED
from tests.browser import CHROMIUM, FLAGS, needs_browser

pytest.importorskip("gradio", reason="needs Gradio: pip install '.[app]'")
pytestmark = [needs_browser, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SEVEN = ROOT / "coda_jax" / "pretrained_networks" / "digits" / "examples" / "7.png"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def port():
    """Where the page of the digits' network is served."""
    port = free_port()
    command = [sys.executable, "-m", "coda_jax", "app", "digits", f"--port={port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout.readline() == f"http://127.0.0.1:{port} shows the page; Ctrl-C ends it\n"
        yield port
        process.terminate()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, port):
    """The page, which may ask for nothing that is not its own."""
    page, own, others = browser.new_page(), f"http://127.0.0.1:{port}/", []
    page.set_default_timeout(60_000)  # The first picture waits until programs are compiled.
    page.on("request", lambda request: request.url.startswith((own, "data:", "blob:")) or others.append(request.url))
    page.goto(own)
    yield page
    page.close()
    assert others == []


def upload(page, path):
    page.locator("#picture input[type=file]").set_input_files(path)


def sums(page):
    """The rows of the table, as texts."""
    return [row.split("\t") for row in page.locator("#sums").inner_text().strip("\n").split("\n")]


def number(text):
    return float(text.replace("−", "-"))


def shown(page, selector):
    """The picture [H, W, 3] that is shown there."""
    content = page.request.get(page.locator(f"{selector} img").get_attribute("src")).body()
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_a_picture_is_explained(page, tmp_path):
    upload(page, SEVEN)
    expect(page.locator("#sums")).to_contain_text("7 − 3", timeout=60_000)
    expected = explain("digits", SEVEN, [[7, 3]])
    probabilities, logits = expected.probabilities[0, [7, 3]], expected.logits[0, [7, 3]]
    assert page.locator("#verdict textarea").input_value() == f"class 7: {probabilities[0]:.1%}\nmade grey"
    expect(page.locator("#classes")).to_contain_text(re.compile(rf"7\D*{probabilities[0]:.0%}"))
    maps = expected.contribution_maps[0]
    rows = {row[0]: row[1:] for row in sums(page)}
    assert rows[""] == ["7", "3", "7 − 3"]
    for column, of_class in enumerate((maps[0], maps[1], maps[0] - maps[1])):
        positive, negative, bias, logit = (
            number(rows[name][column]) for name in ("what speaks for it", "what speaks against it", "bias", "logit")
        )
        assert abs(positive - of_class[of_class > 0].sum()) < 6e-4  # Three decimals.
        assert abs(negative - of_class[of_class < 0].sum()) < 6e-4
        assert bias == (0 if column == 2 else pytest.approx(expected.logit_bias, abs=6e-4))
        assert abs(logit - (*logits, logits[0] - logits[1])[column]) < 6e-4
    captions = page.locator("#layers .caption-label").all_inner_texts()
    assert [caption.partition(":")[0] for caption in captions] == ["8×8", "8×8", "4×4", "4×4"][: len(captions)]
    assert len({caption.partition(": ")[2] for caption in captions}) == 1  # The same sum.
    for selector in ("#this", "#that", "#difference"):
        assert shown(page, selector).shape == (320, 320, 3)


def test_a_pixel_and_other_classes(page):
    upload(page, SEVEN)
    expect(page.locator("#sums")).to_contain_text("7 − 3")
    page.locator("#second input").click()
    page.get_by_role("option", name="9").click()
    expect(page.locator("#sums")).to_contain_text("7 − 9")
    maps = explain("digits", SEVEN, [[7, 9]]).contribution_maps[0]
    row, column = np.unravel_index(np.argmax(np.abs(maps[0])), (8, 8))
    page.locator("#that img").click(position=place(page, "#that img", row, column))
    expect(page.locator("#pixel textarea")).to_have_value(re.compile(f"^row {row + 1}, column {column + 1}: "))
    found = [number(text) for text in re.findall(r"[+−][\d.]+", page.locator("#pixel textarea").input_value())]
    first, second = maps[:, row, column]
    np.testing.assert_allclose(found, [first, second, first - second], atol=6e-5)  # Four decimals.


def place(page, selector, row, column):
    box = page.locator(selector).bounding_box()
    return {"x": (column + 0.5) / 8 * box["width"], "y": (row + 0.5) / 8 * box["height"]}


def test_without_opacity_the_picture_is_there(page):
    upload(page, SEVEN)
    expect(page.locator("#sums")).to_contain_text("7 − 3")
    before = page.locator("#this img").get_attribute("src")
    slider = page.locator("#opacity input[type=range]")
    slider.focus()
    slider.press("Home")
    slider.dispatch_event("pointerup")
    expect(page.locator("#this img")).not_to_have_attribute("src", before)
    np.testing.assert_array_equal(shown(page, "#this")[::40, ::40], explain("digits", SEVEN).images[0])


def test_downloads(page, tmp_path):
    upload(page, SEVEN)
    for suffix in (".npz", ".png"):
        button = page.get_by_role("button", name=f"Download as {suffix}")
        expect(button).to_be_enabled()
        with page.expect_download() as download:
            button.click()
        download.value.save_as(tmp_path / f"x{suffix}")
    arrays, expected = np.load(tmp_path / "x.npz"), explain("digits", SEVEN, [[7, 3]])
    np.testing.assert_array_equal(arrays["targets"], expected.targets)
    np.testing.assert_allclose(arrays["contributions"], expected.contributions, rtol=1e-3, atol=1e-5)
    assert Image.open(tmp_path / "x.png").size[0] > 500


def test_nothing_is_recognised(page, tmp_path):
    greys = [Image.fromarray(np.full((8, 8, 3), grey, np.uint8)) for grey in range(0, 256, 15)]
    recognised = explain("digits", greys).recognised
    assert not recognised.all()
    greys[int(np.argmin(recognised))].save(tmp_path / "grey.png")
    upload(page, tmp_path / "grey.png")
    expect(page.locator("#verdict textarea")).to_have_value(re.compile("^" + re.escape(UNRECOGNISED)))


def test_an_example_and_what_is_no_picture(page, tmp_path):
    (tmp_path / "bad.png").write_text("no picture")
    upload(page, tmp_path / "bad.png")
    expect(page.get_by_text("bad.png: not an image that Pillow can read")).to_be_visible()
    assert str(tmp_path) not in page.content()
    page.locator(".gallery-item, .gallery button, table button").first.click()
    expect(page.locator("#verdict textarea")).to_have_value(re.compile("^class 3: "))  # Of 3.png, the first by name.


def ask(port, path, content=None, kind="application/json"):
    """(status, text) of the answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/gradio_api{path}", content, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def send(port, content):
    """Upload a file, as the page does."""
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    return ask(port, "/upload", head + content + b"\r\n--x--\r\n", "multipart/form-data; boundary=x")


def test_no_file_of_the_machine_can_be_read(port):
    (uploaded,) = json.loads(send(port, SEVEN.read_bytes())[1])
    config = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}/config", timeout=60).read())
    (recognise,) = [call["id"] for call in config["dependencies"] if call["api_name"] == "recognise"]
    for path, readable in ((uploaded, True), (ROOT / "docs" / "images" / "app.png", False), ("/etc/hostname", False)):
        assert ask(port, f"/file={path}")[0] == (200 if readable else 403)
        session, file = str(path).replace("/", "-"), {"path": str(path), "meta": {"_type": "gradio.FileData"}}
        call = {"data": [file], "fn_index": recognise, "session_hash": session}
        assert ask(port, "/queue/join", json.dumps(call).encode())[0] == 200
        assert f'"success":{str(readable).lower()}' in ask(port, f"/queue/data?session_hash={session}")[1]


def test_large_uploads_are_refused(port):
    assert send(port, bytes(11 * 2**20))[0] == 413


def test_only_this_machine_reaches_it(port):
    with socket.socket() as other, pytest.raises(ConnectionRefusedError):
        other.connect(("127.0.0.2", port))
