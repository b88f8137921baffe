import json

import pytest

from coda_jax import InputError
from coda_jax.report.measured import number, read_results, table

LOCALISATION = {"mean": 0.5, "median": 0.4567}
REMOVAL = {"after_5_percent": 0.8, "after_25_percent": 0.6, "curve": [0.9, 0.8, 0.6]}


def write(path, results, **others):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"produced_by": {}, "results": results, **others}))


def test_table_by_hand():
    results = {
        "pixel_removal": {"ours": {"least": REMOVAL, "most": REMOVAL}},
        "localisation_3x3": {"ours": LOCALISATION, "other": {"mean": 0.1, "median": 0.0}},
    }
    assert table(results) == [
        [
            "method",
            "localisation 3×3, mean",
            "median",
            "p(true), whole image",
            "5% least important removed",
            "25% least",
            "5% most",
            "25% most",
        ],
        ["ours", "0.5", "0.457", "0.9", "0.8", "0.6", "0.8", "0.6"],
        ["other", "0.1", "0", "–", "–", "–", "–", "–"],
    ]


def test_a_number_that_was_not_measured_is_none():
    results = {"randomisation": {"ours": {"rank_correlation": [0.5, 0.25]}}}
    path = ("randomisation", "rank_correlation", -1)
    assert number(results, "ours", path) == 0.25
    assert number(results, "other", path) is None
    assert number({}, "ours", path) is None


def test_records_are_read_with_the_contributions_first(tmp_path):
    write(tmp_path / "localisation_3x3-500" / "attention.json", {"mean": 0.1, "median": 0.1}, label="Attention")
    write(tmp_path / "localisation_3x3-500" / "contributions.json", LOCALISATION)  # From before there were labels.
    results = read_results(tmp_path)
    assert results == {
        "localisation_3x3": {"contributions": LOCALISATION, "Attention": {"mean": 0.1, "median": 0.1}},
    }
    assert list(results["localisation_3x3"]) == ["contributions", "Attention"]


def test_a_metric_is_read_with_the_most_examples(tmp_path):
    write(tmp_path / "localisation_3x3-500" / "contributions.json", LOCALISATION)
    write(tmp_path / "localisation_3x3-60" / "contributions.json", {"mean": 0.1, "median": 0.1})
    assert read_results(tmp_path) == {"localisation_3x3": {"contributions": LOCALISATION}}


def test_nothing_is_read_where_nothing_was_measured(tmp_path):
    assert read_results(tmp_path / "interpretability") == {}
    write(tmp_path / "accuracy.json", {"accuracy": 0.5})
    write(tmp_path / "my-notes" / "a.json", {})
    assert read_results(tmp_path) == {}


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"results": {"mean": 0.5}}', '{"results": {"mean": [], "median": 1}}']
)
def test_a_damaged_record_is_named(tmp_path, content):
    path = tmp_path / "localisation_3x3-500" / "gradcam.json"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(InputError, match="gradcam.json is damaged .*: delete it to have it measured again"):
        read_results(tmp_path)
