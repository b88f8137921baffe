"""The page in a real browser."""

import io
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from coda_jax import CoDANet, data
from coda_jax.networks.config_file import save_config
from coda_jax.plotting.maps import colour_table
from coda_jax.report import report, write_report
from coda_jax.training.checkpoints import Checkpoints
from coda_jax.training.state import TrainState
from tests.browser import CHROMIUM, FLAGS, needs_browser
from tests.report.example import MODEL, NAMES, dataset, make_run, maps_of, page_data, predict, random_variables

pytestmark = needs_browser


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The page of the example, the data of its images, their maps by layer [n, T, Hl, Wl], and logits [n, T]."""
    workdir, (model, variables), dataset = make_run(tmp_path_factory.mktemp("example"))
    path = write_report(workdir, dataset, (model, variables))
    page = page_data(path)
    of_images = [maps_of(image, page["layers"]) for image in page["images"]]
    maps = [np.stack(of_layer) for of_layer in zip(*of_images, strict=True)]
    return path, page["images"], maps, np.array([image["logits"] for image in page["images"]])


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The page of real digits, of a network that has learnt nothing, from its checkpoint; and its test accuracy."""
    workdir = tmp_path_factory.mktemp("digits")
    attributes = {"channels": (8, 10), "ranks": (8, 8), "kernel_sizes": (3, 1), "strides": (2, 1), "paddings": (1, 0)}
    save_config(workdir, {"dataset": "digits", "model": attributes})
    model, dataset = CoDANet(**attributes), data.load("digits")
    variables = random_variables(model)
    trained = TrainState(jnp.zeros((), jnp.int32), jax.device_put(variables["params"]), opt_state=())
    Checkpoints(workdir / "checkpoints").save(trained)
    _, logits, labels = predict(model, variables, dataset)
    return write_report(workdir, dataset), np.mean(logits.argmax(-1) == labels)


@pytest.fixture(scope="module")
def browser(example, digits, without_images):
    """Chromium; the pages are made before, as Orbax cannot run beside Playwright's event loop."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Open a page; at the end, nothing may have been complained of, asked for or run that is not the page's own."""
    contexts, seen = [], []

    def open_(path, width=1280, height=900, colours="light", fragment=""):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=colours, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("dialog", lambda dialog: (seen.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: request.url.startswith(("file://", "data:")) or seen.append(request.url))
        page.goto(path.as_uri() + fragment)
        page.wait_for_selector("#confusion .frame", state="attached")  # Charts are drawn with the first frame.
        return page

    yield open_
    for context in contexts:
        context.close()
    assert seen == []


@pytest.fixture(scope="module")
def without_images(tmp_path_factory):
    """The page of a run without metrics, whose images do not fit."""
    workdir, network, dataset = make_run(tmp_path_factory.mktemp("without"))
    (workdir / "metrics.jsonl").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "LARGEST", 10_000)
        return write_report(workdir, dataset, network)


def number(text):
    return float(text.replace("−", "-").replace("%", "").replace("≤", "").replace("≥", ""))


def point(page, picture, row, column, size):
    box = page.locator(picture).bounding_box()
    height, width = size
    page.mouse.move(box["x"] + (column + 0.5) / width * box["width"], box["y"] + (row + 0.5) / height * box["height"])


def readout(page):
    """(contribution, row, column, share in percent), as the page tells them."""
    text = page.locator("#readout").inner_text()
    return [number(part) for part in re.match(r"(\S+) from row (\d+), column (\d+): (\S+) of", text).groups()]


def test_the_first_screen_shows_what_matters(open_page, digits):
    path, accuracy = digits
    for width, height in ((1280, 800), (360, 740)):
        page = open_page(path, width, height)
        for selector in ("h1", ".accuracy strong", "#over", "#beside"):
            box = page.locator(selector).bounding_box()
            assert box["y"] + box["height"] <= height, selector
    assert page.locator("h1").inner_text() == "2L-CoDA-SQ-1"
    assert page.locator(".accuracy strong").inner_text() == f"{accuracy:.2%}"
    for picture in ("#image", ".card img"):  # They are decoded.
        assert page.locator(picture).first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 8


def test_hovering_reads_the_contributions(open_page, example):
    path, images, maps, logits = example
    page = open_page(path)
    assert page.locator("#readout").inner_text().startswith("Point at a pixel")
    for picture, row, column in (("#beside", 0, 0), ("#beside", 5, 7), ("#over", 2, 6)):
        point(page, picture, row, column, (6, 8))
        contribution, *at, share = readout(page)
        expected = maps[0][0, 0, row, column]
        assert at == [row + 1, column + 1]
        assert abs(contribution - expected) <= 6e-5  # Four decimals, and float32's own rounding.
        assert abs(share - 100 * expected / (logits[0, 0] - MODEL.logit_bias)) <= 6e-3  # Two decimals.
        assert page.locator(f"{picture} .cursor").is_visible()


def test_choosing_an_image_and_a_class(open_page, example):
    path, images, maps, logits = example
    page = open_page(path)
    cards = page.locator(".card")
    assert cards.count() == len(images)
    cards.nth(4).click()
    assert page.locator("#position").inner_text() == f"5 of {len(images)}"
    assert cards.nth(4).get_attribute("aria-pressed") == "true"
    assert page.locator("#image").get_attribute("src") == cards.nth(4).locator("img").get_attribute("src")
    assert page.locator("#explorer").bounding_box()["y"] < 10  # It was scrolled to.
    page.locator("#classes label").nth(2).click()
    assert page.locator("#classes input").nth(2).is_checked()
    assert abs(number(page.locator("#logit").inner_text()) - logits[4, 2]) <= 6e-4  # Three decimals.
    point(page, "#beside", 3, 1, (6, 8))
    assert abs(readout(page)[0] - maps[0][4, 2, 3, 1]) <= 6e-5
    page.locator("#next").click()
    page.locator("#previous").click()
    page.locator("#previous").click()
    assert page.locator("#position").inner_text() == f"4 of {len(images)}"


def what_is_shown(page):
    """(position, heading, number of the layer)."""
    return (
        page.locator("#position").inner_text().partition(" ")[0],
        page.locator("#why").inner_text(),
        page.locator("#layer").input_value(),
    )


def test_the_address_leads_back_to_what_is_shown(open_page, example):
    path, images, _, _ = example
    page = open_page(path)
    fragments = [f"#image={images[0]['index']}&class={images[0]['targets'][0]}&layer=0"]
    seen = [what_is_shown(page)]
    for act in (
        lambda: page.locator(".card").nth(4).click(),
        lambda: page.locator("#classes label").nth(2).click(),
        lambda: page.locator("#strip span").nth(1).click(),
        lambda: page.locator("#layer").press("End"),
        lambda: page.locator("#next").click(),
    ):
        act()
        fragments.append(page.evaluate("location.hash"))
        seen.append(what_is_shown(page))
    index, targets = images[4]["index"], images[4]["targets"]
    assert fragments[1:] == [
        f"#image={index}&class={targets[0]}&layer=0",
        f"#image={index}&class={targets[2]}&layer=0",
        f"#image={index}&class={targets[2]}&layer=1",
        f"#image={index}&class={targets[2]}&layer=2",
        f"#image={images[5]['index']}&class={images[5]['targets'][0]}&layer=2",
    ]
    assert len(set(seen)) == len(seen)
    for expected, fragment in zip(seen[-2::-1], fragments[-2::-1], strict=True):
        page.go_back()
        page.wait_for_function("fragment => location.hash === fragment", arg=fragment)
        assert what_is_shown(page) == expected
    page.go_forward()
    page.go_forward()
    page.wait_for_function("fragment => location.hash === fragment", arg=fragments[2])
    page.reload()
    assert what_is_shown(page) == seen[2] and page.locator("#classes input").nth(2).is_checked()
    linked = open_page(path, fragment=fragments[3])
    assert what_is_shown(linked) == seen[3]
    # A link that is followed from the page itself, to the same image again.
    linked.evaluate("fragment => { location.hash = fragment; }", fragments[5])
    linked.wait_for_function("number => shown.image === number", arg=5)
    assert what_is_shown(linked) == seen[5]


def test_sections_keep_their_addresses_and_what_is_shown(open_page, example):
    page = open_page(example[0])
    page.locator(".card").nth(3).click()
    shown, fragment = what_is_shown(page), page.evaluate("location.hash")
    page.locator("nav a", has_text="Training").click()
    page.wait_for_function("history.state !== null")
    assert page.evaluate("location.hash") == "#training" and what_is_shown(page) == shown
    page.reload()
    assert page.evaluate("location.hash") == "#training" and what_is_shown(page) == shown
    page.locator("#next").click()
    page.go_back()
    page.wait_for_function("location.hash === '#training'")
    assert what_is_shown(page) == shown
    page.go_back()
    page.wait_for_function("fragment => location.hash === fragment", arg=fragment)
    assert what_is_shown(page) == shown


@pytest.mark.parametrize("fragment", ["#image=99999&layer=99", "#image=&class=x&layer=-1", "#=&%"])
def test_an_address_of_nothing_shows_the_first_image(open_page, example, fragment):
    page = open_page(example[0], fragment=fragment)
    first = example[1][0]
    assert what_is_shown(page)[0] == "1" and what_is_shown(page)[2] == "0"
    assert page.evaluate("location.hash") == f"#image={first['index']}&class={first['targets'][0]}&layer=0"


def test_the_picture_that_is_saved(open_page, example, digits):
    path, images, maps, _ = example
    page = open_page(path)
    page.locator(".card").nth(3).click()
    page.locator("#strip span").nth(1).click()
    page.locator("#opacity").fill("70")
    with page.expect_download() as download:
        page.locator("#save").click()
    name = page.locator("h1").inner_text()
    target = ("script-alert-1-script", "x", "long-long-long-long-lon")[images[3]["targets"][0]]
    saved_as = f"{name}-test-image-{images[3]['index']}-why-{target}-by-input-of-layer-1.png"
    assert download.value.suggested_filename == saved_as
    picture = np.asarray(Image.open(download.value.path()).convert("RGB")).astype(int)
    assert picture.shape[1] == 2 * 480 + 60 and (picture[:20] == 255).all()  # On white, also in dark mode.
    assert (picture[20:90] < 100).any()  # Says what it is of.
    panels = picture[100:460, 20:500], picture[100:460, 520:1000]
    strength = np.clip(maps[1][3, 0] / images[3]["scales"][1], -1, 1)
    colours = colour_table()[np.rint((strength + 1) * 127.5).astype(int)]
    assert np.abs(panels[1][60::120, 60::120] - colours).max() <= 8  # One step of 256 where rounding decides.
    # The image is as it is on the page, but for the rounding of the browser's own filters and blending.
    on_page = np.asarray(Image.open(io.BytesIO(page.locator("#over").screenshot())).convert("RGB").resize((480, 360)))
    assert np.abs(panels[0][30::60, 30::60] - on_page[30::60, 30::60]).max() <= 4
    assert np.ptp(on_page[30::60, 30::60]) > 50  # There is something to see.


def test_thumbnails_say_which_layer_they_are(open_page, example):
    for width in (1280, 390):
        page = open_page(example[0], width, 900)
        assert page.locator("#strip span").all_inner_texts() == ["image\n6×8", "layer 1\n3×4", "head\n3×4"]


def test_many_thumbnails_are_as_wide_as_what_they_say(open_page, digits):
    page = open_page(digits[0], 390, 740)
    page.evaluate("for (let i = 0; i < 12; i++) at('strip').append(at('strip').children[1].cloneNode(true))")
    for label in page.locator("#strip small").all():
        assert label.evaluate("label => label.scrollWidth <= label.clientWidth")


def test_improbable_classes_are_folded(open_page, example):
    page = open_page(example[0])
    assert not page.locator("fieldset details").is_visible()  # None of three.
    page.evaluate(
        """Object.assign(data.images[0], { targets: [1, 0, 2], probabilities: [0.0005, 0.0004, 0.0003], label: 0 });
        Object.assign(data.images[1], { targets: [1, 0, 2], probabilities: [0.9, 0.001, 0.0003], label: 1 });
        Object.assign(data.images[2], { targets: [1, 0, 2], probabilities: [0.9, 0.0009, 0.0003], label: 1 });
        for (const image of data.images) image.maps = data.images[0].maps;
        showImage(2);"""
    )
    names = [NAMES[target][:39] for target in (1, 0, 2)]
    visible = page.locator("fieldset .name:visible")
    assert visible.count() == 1 and page.locator("fieldset summary").inner_text() == "2 classes below 0.1%"
    page.locator("#previous").click()
    assert visible.count() == 2 and page.locator("fieldset summary").inner_text() == "1 class below 0.1%"
    page.locator("#previous").click()  # The most probable class and the true one stay.
    assert [text[:4] for text in visible.all_inner_texts()] == [names[0][:4], names[1][:4]]
    page.locator("fieldset summary").focus()
    page.keyboard.press("Enter")
    assert visible.count() == 3
    visible.nth(2).click()
    assert page.locator("#why").inner_text().startswith("Why “long")
    # It opens where the address leads to a class within it.
    page.locator("fieldset summary").click()
    page.locator("#next").click()
    assert visible.count() == 2
    page.go_back()
    page.wait_for_function("shown.image === 0")
    assert visible.count() == 3 and page.locator("fieldset input").nth(2).is_checked()


def test_the_colour_bar_keeps_its_width(open_page, example, digits):
    for path in (example[0], digits[0]):
        for width in (320, 390, 640, 768, 1280):
            page = open_page(path, width, 844)
            bar, map_ = (page.locator(selector).bounding_box()["width"] for selector in ("#colours", "#beside"))
            assert bar >= min(130, map_ - 1), width


def test_numbers_are_said_to_be_classes(open_page, digits):
    page = open_page(digits[0])
    assert re.fullmatch(r"Why “class \d”\?", page.locator("#why").inner_text())
    for selector in (".truth", "fieldset .name"):
        for text in page.locator(selector).all_text_contents():
            assert re.fullmatch(r"class \d( ✓)?", text)
    assert re.match(r"class \d[<>]?[\d.]+%", page.locator(".guess").first.text_content())


def test_the_verdict(open_page, example):
    path, images, _, logits = example
    page = open_page(path)
    _, of_all, _ = predict(MODEL, random_variables(MODEL), dataset())
    share = np.mean(of_all.max(-1) <= 0)
    assert 0 < share < 1 and f"For {share:.1%} of all test images no class" in page.locator("#gallery").inner_text()
    recognised = logits.max(-1) > 0
    assert recognised.any() and not recognised.all()
    for image in (int(np.argmax(recognised)), int(np.argmin(recognised))):
        page.locator(".card").nth(image).click()
        verdict = page.locator("#verdict").inner_text()
        assert ("takes it for “" in verdict) == recognised[image], verdict
        assert ("recognises none of its classes" in verdict) != recognised[image], verdict
        right = images[image]["label"] == images[image]["targets"][0]
        assert verdict.endswith(", which is right." if right else ", which is wrong.")
    # The page decides nothing itself.
    page.evaluate("image => { data.images[image].recognised = false; showImage(image); }", int(np.argmax(recognised)))
    assert "recognises none of its classes" in page.locator("#verdict").inner_text()


def test_every_layer_adds_up_to_the_logit(open_page, example):
    path, images, maps, logits = example
    page = open_page(path)
    slider = page.locator("#layer")
    slider.focus()
    for image in range(3):
        slider.press("Home")
        for layer, of_layer in enumerate(maps):
            assert slider.input_value() == str(layer)
            assert f"{of_layer.shape[2]}×{of_layer.shape[3]}" in page.locator("#layer-name").inner_text()
            positive, negative, bias, logit = (
                number(page.locator(f"#{part}").inner_text()) for part in ("positive", "negative", "bias", "logit")
            )
            values = of_layer[image, 0]
            assert abs(positive - values[values > 0].sum()) <= 6e-4  # Three decimals each.
            assert abs(negative - values[values < 0].sum()) <= 6e-4
            assert abs(logit - logits[image, 0]) <= 6e-4
            assert abs(positive + negative + bias - logit) <= 2e-3  # Four numbers of three decimals.
            slider.press("ArrowRight")
        page.locator("#next").click()
        slider.focus()
    # The cursor has the size of the layer's positions.
    slider.fill("1")
    point(page, "#beside", 2, 3, (3, 4))
    assert abs(readout(page)[0] - maps[1][3, 0, 2, 3]) <= 6e-5
    assert page.locator("#beside .cursor").bounding_box()["width"] > page.locator("#beside").bounding_box()["width"] / 5
    page.locator("#strip span").nth(2).click()
    assert slider.input_value() == "2"


def test_the_bars_end_where_the_logit_ends(open_page, example):
    page = open_page(example[0])
    for _ in range(3):
        boxes = [page.locator(f"#sum .{name} i").bounding_box() for name in ("positive", "negative", "bias", "logit")]
        ends = [(box["x"], box["x"] + box["width"]) for box in boxes]
        near = pytest.approx  # Within two pixels, which the shortest bar has.
        assert ends[0][1] == near(ends[1][1], abs=2)  # The negative goes back from where the positive ends,
        assert ends[1][0] == near(ends[2][1], abs=2)  # the bias, which is negative, from there,
        zero = ends[0][0]
        assert any(end == near(ends[2][0], abs=2) for end in ends[3])  # and the logit lies between that and zero.
        assert any(end == near(zero, abs=2) for end in ends[3])
        page.locator("#next").click()


def test_maps_have_the_colours_of_the_project(open_page, example):
    path, images, maps, _ = example
    page = open_page(path)
    shown = page.locator("#map").evaluate(
        "canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
    )
    strength = np.clip(maps[0][0, 0] / images[0]["scales"][0], -1, 1)
    # One step of 256 where rounding decides.
    ours = np.abs(np.reshape(shown, (6, 8, 4))[..., :3] - colour_table()[np.rint((strength + 1) * 127.5).astype(int)])
    assert ours.max() <= 8
    opacity = page.locator("#opacity")
    for value, expected in (("0", "0"), ("100", "1")):
        opacity.fill(value)
        assert page.locator("#overlay").evaluate("canvas => getComputedStyle(canvas).opacity") == expected


def test_what_the_class_looks_for_in_its_colours(open_page, example):
    path, images, _, _ = example
    page = open_page(path)
    assert page.locator("#colour-explanation").is_hidden()
    page.locator("#coloured").check()
    page.locator("#classes input").nth(1).check(force=True)
    assert page.locator("#colour-explanation").get_attribute("src") == images[0]["colours"][1]
    assert page.locator("#colour-explanation").is_visible() and page.locator("#colour-note").is_visible()
    assert page.locator("#contribution-scale").is_hidden()
    page.locator("#layer").fill("1")  # The inputs of other layers have no colours.
    assert page.locator("#colour-explanation").is_hidden() and page.locator("#coloured").is_disabled()
    assert page.locator("#contribution-scale").is_visible()


def test_arrow_keys_move_over_the_pictures(open_page, example):
    path, _, maps, _ = example
    page = open_page(path)
    picture = page.locator("#beside")
    picture.focus()
    picture.press("ArrowDown")
    row, column = np.unravel_index(np.abs(maps[0][0, 0]).argmax(), (6, 8))
    assert readout(page)[1:3] == [row + 1, column + 1]  # They begin at the strongest pixel.
    for _ in range(9):
        picture.press("ArrowDown")
        picture.press("ArrowRight")
    assert readout(page)[1:3] == [6, 8]
    picture.press("ArrowUp")
    picture.press("ArrowLeft")
    assert readout(page)[1:3] == [5, 7]
    assert abs(readout(page)[0] - maps[0][0, 0, 4, 6]) <= 6e-5
    picture.blur()
    assert page.locator("#readout").inner_text().startswith("Point at a pixel")


def test_everything_can_be_reached_and_seen_by_keyboard(open_page, example):
    page = open_page(example[0])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the explained images"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        element = page.evaluate(
            """() => {
              const e = document.activeElement;
              const seen = e.type === "radio" ? e.parentElement : e;
              const name = e.getAttribute("aria-label") ?? e.labels?.[0]?.textContent ?? e.textContent;
              return [e.id || e.className || e.tagName, name.trim(), getComputedStyle(seen).outline];
            }"""
        )
        if element[0] == "BODY":
            break
        assert element[1] and element[2].endswith("solid 3px"), element
        reached.append(element[0])
    for name in (
        "previous",
        "next",
        "over",
        "opacity",
        "beside",
        "save",
        "layer",
        "card",
        "accuracy-chart",
        "confusion",
    ):
        assert name in reached
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "previous"
    page.locator("#classes input").first.focus()
    page.keyboard.press("ArrowDown")
    assert page.locator("#classes input").nth(1).is_checked()
    page.locator(".card").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator("#position").inner_text().startswith("2 of")
    assert page.evaluate("document.activeElement.id") == "explorer"


def test_confusion_matrix(open_page, example):
    path, _, _, _ = example
    page = open_page(path)
    cells = page.evaluate("data.confusion")
    svg, output = page.locator("#confusion"), page.locator("#confusion + output")
    assert svg.locator(".count").all_text_contents() == [str(count) for _, _, count in cells]
    for (label, predicted, count), text in zip(cells, svg.locator(".count").all(), strict=True):
        text.hover(force=True)
        total = sum(cell[2] for cell in cells if cell[0] == label)
        assert f"{count} of {total} images, {count / total:.1%}" in output.inner_text()
        short = [name[:10] for name in NAMES]
        assert (
            f"true “{short[label]}" in output.inner_text() and f"predicted “{short[predicted]}" in output.inner_text()
        )
    box = svg.bounding_box()
    for label in svg.locator("text").all():
        within = label.bounding_box()
        assert within["x"] >= box["x"] - 1 and within["y"] >= box["y"] - 1  # Clear of what stands above.
    svg.focus()
    page.mouse.move(0, 0)
    svg.blur()
    svg.focus()
    svg.press("ArrowRight")
    svg.press("ArrowDown")
    assert output.inner_text().startswith("true “$x$”, predicted “<script>")


def test_curves(open_page, example):
    page = open_page(example[0])
    page.locator("#training").scroll_into_view_if_needed()
    chart, output = page.locator("#loss-chart"), page.locator("#loss-chart + output")
    chart.focus()
    chart.press("ArrowRight")
    assert output.inner_text() == "training 0.7500 after epoch 0.5, test 0.6875 after epoch 1"
    for _ in range(5):
        chart.press("ArrowRight")
    assert output.inner_text() == "training 0.5000 after epoch 2, test 0.5625 after epoch 2"
    box = page.locator("#accuracy-chart").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.55, box["y"] + 50)  # Nearest to the middle of two epochs.
    hovered = page.locator("#accuracy-chart + output").inner_text()
    assert hovered == "training 50.0% after epoch 1, test 37.5% after epoch 1"
    # The first point of the curve lies where the axes say: half of an epoch of two, 25% between 0% and 80%.
    start = page.locator("#accuracy-chart path.training").get_attribute("d")
    x, y = (float(part) for part in re.match(r"M(\S+) (\S+)L", start).groups())
    labels = {
        label.text_content(): label.bounding_box()
        for label in page.locator("#accuracy-chart text").all()
        if re.fullmatch(r"[\d.]+%?", label.text_content())
    }
    middle = {
        text: (at["x"] + at["width"] / 2 - box["x"], at["y"] + at["height"] / 2 - box["y"])
        for text, at in labels.items()
    }
    assert x == pytest.approx(middle["0"][0] + 0.25 * (middle["2"][0] - middle["0"][0]), abs=2)
    assert y == pytest.approx(middle["0%"][1] + 25 / 80 * (middle["80%"][1] - middle["0%"][1]), abs=3)


def test_hostile_names_are_text(open_page, example):
    page = open_page(example[0])
    assert page.evaluate("document.scripts.length") == 2  # The page's data and program.
    truths = page.locator(".truth").all_inner_texts()
    assert "<script>alert(1)</script>" in truths and "$x$" in truths
    assert page.locator(".facts").inner_text().startswith("<script>alert(1)</script> · 3 classes")
    page.locator("#quality summary").click()
    assert page.locator(".numbers tbody th").inner_text() == "<script>alert(2)</script>"
    shown = page.locator(".truth").nth(truths.index("<script>alert(1)</script>"))
    shown.click()
    assert "shows “<script>alert(1)</script>”" in page.locator("#verdict").inner_text()


def test_a_phone_needs_no_scrolling_to_the_side(open_page, example, digits):
    for path in (example[0], digits[0]):
        for width in (320, 360, 768):
            page = open_page(path, width, 740)
            for details in page.locator("details").all():
                details.evaluate("details => details.open = true")
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_page_without_images(open_page, without_images):
    page = open_page(without_images)
    assert "too large" in page.locator("#explorer").inner_text()
    assert page.locator("#training, nav a[href='#training']").count() == 0
    assert page.locator("#gallery").count() == 0
    assert page.locator("#confusion rect.right").count() == 3


CONTRASTS = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => {
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = colour.slice(0, 3).map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = channels(getComputedStyle(e).backgroundColor);
      if (colour.length === 3) return colour;
    }
  };
  const found = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || ["SCRIPT", "STYLE"].includes(element.tagName) || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    let under = behind(element);
    if (element.classList.contains("count")) {
      const cell = getComputedStyle(element.previousSibling);
      under = channels(cell.fill).map((c, i) => cell.fillOpacity * c + (1 - cell.fillOpacity) * under[i]);
    }
    const colour = channels(element.ownerSVGElement ? style.fill : style.color);
    const [dark, light] = [luminance(colour), luminance(under)].sort((a, b) => a - b);
    found.push([(light + 0.05) / (dark + 0.05), element.textContent.trim().slice(0, 40)]);
  }
  return found;
}"""


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_contrast(open_page, digits, example, colours):
    for path in (digits[0], example[0]):
        contrasts = open_page(path, colours=colours).evaluate(CONTRASTS)
        assert len(contrasts) > 100
        # WCAG 2.2, level AA, for small text.
        assert [found for found in contrasts if found[0] < 4.5] == []
