import base64
import io

import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

from coda_jax import HybridNet, InputError
from coda_jax.contributions import contribution_map, layer_contributions, linear_weights
from coda_jax.networks.bcos_resnet import BcosResNet
from coda_jax.plotting.maps import colour_explanation
from coda_jax.report import report
from tests.parameters import random_variables
from tests.report.example import MODEL, dataset, make_run, maps_of, page_data, predict


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run: its directory, the network, the data."""
    return make_run(tmp_path_factory.mktemp("run"))


def test_chosen_images_by_hand():
    logits = np.array([[3, 0], [5, 0], [4, 0], [0, 2], [6, 0], [0.5, 0], [0, 1], [7, 0]], np.float32)
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 0])
    # Right: 7, 1, 2, 0 of class 0 by falling logit, 3, 6 of class 1. Wrong: 4, 5, both of class 1.
    right, unsure, wrong = report.choose_images(logits, labels, 3)
    assert right.tolist() == [7, 3, 1]  # The classes take turns.
    assert wrong.tolist() == [4, 5]
    assert unsure.tolist() == [6, 0, 2]  # Of the rest the least logits first: 6 with 1, 0 with 3, 2 with 4.


def test_no_image_is_chosen_twice_and_none_where_none_fits():
    logits = np.random.default_rng(0).normal(size=(20, 3))
    labels = np.random.default_rng(1).integers(0, 3, 20)
    chosen = np.concatenate(report.choose_images(logits, labels, 10))
    assert sorted(chosen) == list(range(20))
    assert [len(kind) for kind in report.choose_images(logits, labels, 0)] == [0, 0, 0]


def test_confusion_by_hand():
    predicted, labels = np.array([0, 1, 1, 2, 1]), np.array([0, 1, 0, 2, 0])
    assert report.confusion(predicted, labels) == [[0, 0, 1], [0, 1, 2], [1, 1, 1], [2, 2, 1]]
    assert report.commonest_mistakes(predicted, labels) == [[0, 1, 2, pytest.approx(2 / 3)]]


def test_learning_curves_are_thinned_and_keep_the_last_record():
    records = [{"step": i, "epoch": i / 10, "loss": float(i)} for i in range(1, 1502)]
    records.append({"step": 1501, "epoch": 150.1, "test_loss": 0.5, "test_accuracy": 0.9})
    curves = report.learning_curves(records)
    assert curves["loss"]["training"][-1] == [150.1, 1501.0]
    assert curves["loss"]["training"][-2] == [149.7, 1497.0]  # Every fourth: 1501 records, at most 500 points.
    assert curves["loss"]["test"] == [[150.1, 0.5]]
    assert curves["accuracy"] == {"training": [], "test": [[150.1, 0.9]]}


def test_explained_images_are_those_of_the_contributions(run):
    _, (model, variables), data = run
    indices = np.array([3, 0])
    layers = [{"height": height, "width": width} for height, width in [(6, 8), (3, 4), (3, 4)]]
    inputs, logits, _ = predict(model, variables, data)
    inputs, logits = inputs[indices], logits[indices]
    labels = logits.argmin(-1)  # So that the true class is not among the two most probable.
    images = report.explained_images(model, variables, data, indices, logits, labels, 2)
    for row, image in enumerate(images):
        assert image["targets"] == [logits[row].argmax(), labels[row]]
        assert image["recognised"] is bool((1 / (1 + np.exp(-logits[row])) > 0.5).any())
        np.testing.assert_array_equal(image["logits"], logits[row, image["targets"]])
        # The same sigmoid, in float32.
        np.testing.assert_allclose(image["probabilities"], 1 / (1 + np.exp(-logits[row, image["targets"]])), rtol=1e-6)
        for layer, maps in enumerate(maps_of(image, layers)):
            targets = np.array([image["targets"]])
            expected = contribution_map(layer_contributions(model, variables, inputs[row : row + 1], targets, layer))[0]
            # Two orders of the same float32 sums.
            np.testing.assert_allclose(maps, expected, atol=1e-5 * np.abs(expected).max())
            for target in range(2):
                positive, negative = image["positive"][layer][target], image["negative"][layer][target]
                assert positive == pytest.approx(maps[target][maps[target] > 0].sum(), rel=1e-5)
                assert negative == pytest.approx(maps[target][maps[target] < 0].sum(), rel=1e-5)
                # README promises 1e-5 of the largest value.
                total = positive + negative + model.logit_bias
                assert total == pytest.approx(image["logits"][target], abs=1e-5 * max(positive, -negative, 1))


def test_colours_of_explained_images(run):
    _, (model, variables), data = run
    inputs, logits, labels = predict(model, variables, data)
    [image] = report.explained_images(model, variables, data, np.array([5]), logits[5:6], labels[5:6], 3)
    rows = linear_weights(model, variables, inputs[5:6], np.array([image["targets"]]))[0]
    expected = [colour_explanation(inputs[5], row) for row in rows]
    expected = [255 * (1 - picture[..., 3:] * (1 - picture[..., :3])) for picture in expected]
    for source, of_class in zip(image["colours"], expected, strict=True):
        kind, content = source.split(",")
        assert kind == "data:image/webp;base64"
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"), float)
        # Of random pixels WebP keeps brightness, the mean of the colours, better than the colours.
        errors = [np.abs(shown.mean(-1) - other.mean(-1)).mean() for other in expected]
        assert min(errors) == np.abs(shown.mean(-1) - of_class.mean(-1)).mean() < 20, errors  # Others differ by 75.


def test_a_page_says_what_the_network_does(run):
    workdir, network, data = run
    path = report.write_report(workdir, data, network)
    assert path == workdir / "report.html"
    assert not path.with_suffix(".new").exists()
    _, logits, labels = predict(*network, data)
    predicted = logits.argmax(-1)
    assert f"<strong>{np.mean(predicted == labels):.2%}</strong>" in path.read_text()
    assert page_data(path)["confusion"] == report.confusion(predicted, labels)


def test_a_b_cos_network(run):
    workdir, _, data = run
    model = BcosResNet(blocks=(1,), num_classes=3, width=4, small_images=True)
    path = report.write_report(workdir, data, (model, random_variables(model)))
    assert "Report of a B-cos network" in path.read_text()
    found = page_data(path)
    assert [layer["name"] for layer in found["layers"]] == [
        "image",
        "input of layer 1",
        "input of layer 2",
        "input of the head",
    ]
    for image in found["images"]:
        for positive, negative in zip(image["positive"], image["negative"], strict=True):
            total = np.add(positive, negative) + model.logit_bias
            np.testing.assert_allclose(total, image["logits"], rtol=0, atol=1e-5)  # float32, of order 1.


def test_the_page_keeps_within_its_size(run, monkeypatch):
    workdir, network, data = run
    whole = report.write_report(workdir, data, network)
    size, images = whole.stat().st_size, len(page_data(whole)["images"])
    assert size <= report.LARGEST
    seen = []
    for largest in (size, size - 50_000, 50_000):
        monkeypatch.setattr(report, "LARGEST", largest)
        path = report.write_report(workdir, data, network)
        assert path.stat().st_size <= largest
        seen.append(len(page_data(path)["images"]))
    assert images > seen[0] > seen[1] > seen[2] == 0


def test_the_page_keeps_within_its_size_with_larger_images(run):
    workdir, (model, variables), data = run
    rng = np.random.default_rng(0)  # Noise, which no PNG makes smaller.
    test = [{"image": rng.integers(0, 256, (120, 120, 3), np.uint8), "label": index % 3} for index in range(30)]
    path = report.write_report(workdir, data._replace(test=test), (model, variables))
    assert len(page_data(path)["images"]) > 3 and 4_000_000 < path.stat().st_size <= report.LARGEST


@pytest.mark.parametrize(
    ("sizes", "classes", "expected"),
    [
        ([(32, 32), (16, 16), (16, 16), (8, 8), (8, 8), (8, 8)], 10, (10, 10)),  # XS-CoDA on CIFAR-10.
        ([(32, 32)] * 3 + [(16, 16)] * 3 + [(8, 8)] * 4, 10, (5, 10)),  # S-CoDA: 4,096 values a class, 250 kB an image.
        ([(240, 240)] + [(80, 80)] * 3 + [(40, 40)] * 3 + [(20, 20)] * 4, 100, (1, 2)),
        ([(1000, 1000)] * 2, 10, (0, 2)),
    ],
)
def test_images_and_classes_that_fit(sizes, classes, expected):
    assert report._how_many(sizes, classes, 4_500_000) == expected


def test_precision_of_the_run_does_not_keep_the_page_from_adding_up(run):
    workdir, (model, variables), data = run
    path = report.write_report(workdir, data, (model.clone(dtype="bfloat16"), variables))
    for image in page_data(path)["images"]:
        for positive, negative in zip(image["positive"], image["negative"], strict=True):
            total = np.add(positive, negative) + model.logit_bias
            # 1e-5 of the largest value, as in float32; bfloat16 would miss by 1e-2.
            np.testing.assert_allclose(total, image["logits"], atol=1e-5 * np.abs([*positive, *negative, 1]).max())


def test_figures_are_embedded_unless_they_are_large(tmp_path):
    records = {
        "removal": {"ours": {"caption": "Too large."}},
        "localisation": {"ours": {}, "other": {"caption": "Where it lies."}},
        "completeness": {"ours": {"caption": "Of a figure that is not there."}},
        "randomisation": {"ours": {}},
    }
    assert report._figures(tmp_path / "nothing", records) == []
    (tmp_path / "localisation.svg").write_bytes(b"<svg/>")
    (tmp_path / "localisation.png").write_bytes(b"longer than the SVG")
    (tmp_path / "removal.svg").write_bytes(b" " * 500_000)
    (tmp_path / "randomisation.svg").write_bytes(b"<svg/>")
    [figure] = report._figures(tmp_path, records)
    assert figure["source"] == "data:image/svg+xml;base64,PHN2Zy8+"
    assert (figure["name"], figure["caption"]) == ("localisation", "Where it lies.")


@pytest.mark.parametrize(
    ("probability", "shown"), [(0, "0.0%"), (0.0004, "<0.1%"), (0.5, "50.0%"), (0.9995, ">99.9%"), (1, "100.0%")]
)
def test_probabilities_claim_no_certainty(probability, shown):
    assert report._percent(probability) == shown


def test_bad_input_is_refused(run, tmp_path):
    workdir, (model, variables), data = run
    with pytest.raises(InputError, match="there is no run in"):
        report.write_report(tmp_path, data)
    two = data._replace(info=data.info._replace(class_names=("a", "b")))
    with pytest.raises(InputError, match="dataset has 2 classes, but the network in .* has 3"):
        report.write_report(workdir, two, (model, variables))
    with pytest.raises(InputError, match="is a run of a HybridNet: the report is for CoDA-Nets"):
        report.write_report(workdir, data, (HybridNet(nn.Conv(3, (1, 1)), model), variables))
    blocked, _, _ = make_run(tmp_path / "blocked")
    (blocked / "report.html").mkdir()
    with pytest.raises(InputError, match="cannot write to .*report.html: it is a directory"):
        report.write_report(blocked, data, (model, variables))


def test_data_without_anything_recorded(tmp_path):
    """A run whose metrics are gone, of a network that is never wrong."""
    workdir, (model, variables), data = make_run(tmp_path)
    (workdir / "metrics.jsonl").unlink()
    _, logits, _ = predict(model, variables, data)
    examples = [{**example, "label": int(label)} for example, label in zip(data.test, logits.argmax(-1), strict=True)]
    text = report.write_report(workdir, data._replace(test=examples), (model, variables)).read_text()
    assert "<strong>100.00%</strong>" in text and "Confident and wrong" not in text and "Commonest" not in text


def test_the_example_is_of_use():
    """Contributions of both signs, images that are not square, layers of other sizes, and some mistakes."""
    assert MODEL.strides[0] == 2 and dataset().test[0]["image"].shape == (6, 8, 3)
