import json

import pytest

from coda_jax import InputError
from coda_jax.report.measured import caption, read_records, table

COLUMNS = {"localisation, mean": ["mean"], "median": ["median"]}
LOCALISATION = {"columns": COLUMNS, "place": 0, "results": {"mean": 0.5, "median": 0.4567}}
OTHER = {"columns": COLUMNS, "place": 0, "results": {"mean": 0.1, "median": 0.0}}
REMOVAL = {
    "columns": {"whole image": ["least", "curve", 0], "25% least": ["least", "curve", -1]},
    "results": {"least": {"curve": [0.9, 0.8, 0.6]}},
}


def write(path, record):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record))


def read_table(directory):
    return table(read_records(directory))


def test_table_by_hand():
    records = {"localisation": {"ours": LOCALISATION, "other": OTHER}, "removal": {"ours": REMOVAL}}
    assert table(records) == [
        ["method", "localisation, mean", "median", "whole image", "25% least"],
        ["ours", "0.5", "0.457", "0.9", "0.6"],
        ["other", "0.1", "0", "–", "–"],
    ]


def test_two_metrics_may_have_a_column_of_the_same_title():
    assert table({"one": {"ours": LOCALISATION}, "two": {"ours": OTHER}}) == [
        ["method", *COLUMNS, *COLUMNS],
        ["ours", "0.5", "0.457", "0.1", "0"],
    ]


def test_records_are_read_with_the_contributions_first(tmp_path):
    write(tmp_path / "localisation-500" / "attention.json", {"label": "Attention", **OTHER})
    write(tmp_path / "localisation-500" / "contributions.json", {"label": "ours", **LOCALISATION})
    records = read_records(tmp_path)
    assert records == {
        "localisation": {"ours": {"label": "ours", **LOCALISATION}, "Attention": {"label": "Attention", **OTHER}}
    }
    assert list(records["localisation"]) == ["ours", "Attention"]


def test_former_records_are_shown_with_proper_names(tmp_path):
    """They have neither columns nor captions, and the first of them no label."""
    removal = {"after_5_percent": 0.8, "after_25_percent": 0.6, "curve": [0.9, 0.8, 0.6]}
    for metric, results in {
        "localisation_3x3-500": {"mean": 0.5, "median": 0.4567},
        "localisation_2x2-500": {"mean": 0.75},
        "pixel_removal-1024": {"least": removal, "most": removal},
        "completeness-128": {"median": 1e-7, "percentile_95": 1e-6},
        "randomisation-64": {"rank_correlation": [0.5, 0.25]},
    }.items():
        write(tmp_path / metric / "contributions.json", {"produced_by": {}, "results": results})
    write(tmp_path / "localisation_3x3-500" / "gradcam.json", {"results": {"mean": 0.1, "median": 0.0}})
    titles, ours, gradcam = read_table(tmp_path)
    assert dict(zip(titles, ours, strict=True)) == {
        "method": "contributions",
        "localisation 3×3, mean": "0.5",
        "median": "0.457",
        "localisation 2×2, mean": "0.75",
        "p(true), whole image": "0.9",
        "5% least important removed": "0.8",
        "25% least": "0.6",
        "5% most": "0.8",
        "25% most": "0.6",
        "completeness residual, median": "1e-07",
        "rank correlation, all layers randomised": "0.25",
    }
    assert gradcam[0] == "Grad-CAM"
    assert "1/9 is chance" in read_records(tmp_path)["localisation_3x3"]["Grad-CAM"]["caption"]


def test_metrics_come_by_their_places(tmp_path):
    for place, metric in enumerate("bca"):
        write(tmp_path / f"{metric}-5" / "gradcam.json", REMOVAL | {"place": place})
    write(tmp_path / "c-5" / "gradient.json", OTHER | {"place": 1, "caption": "C"})
    records = read_records(tmp_path)
    assert list(records) == ["b", "c", "a"]
    assert [caption(of_metric) for of_metric in records.values()] == ["", "C", ""]


def test_a_metric_is_read_with_the_most_examples(tmp_path):
    write(tmp_path / "localisation-500" / "contributions.json", {"label": "ours", **LOCALISATION})
    write(tmp_path / "localisation-60" / "contributions.json", {"label": "ours", **OTHER})
    assert read_records(tmp_path) == {"localisation": {"ours": {"label": "ours", **LOCALISATION}}}


def test_nothing_is_read_where_nothing_was_measured(tmp_path):
    assert read_records(tmp_path / "interpretability") == {}
    write(tmp_path / "accuracy.json", {"accuracy": 0.5})
    write(tmp_path / "my-notes" / "a.json", {})
    assert read_records(tmp_path) == {}


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"results": {"mean": 0.5}}',
        '{"results": {"mean": [], "median": 1}}',
        '{"columns": [], "results": {}}',
    ],
)
def test_a_damaged_record_is_named(tmp_path, content):
    path = tmp_path / "localisation_3x3-500" / "gradcam.json"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(InputError, match="gradcam.json is damaged .*: delete it to have it measured again"):
        read_records(tmp_path)
