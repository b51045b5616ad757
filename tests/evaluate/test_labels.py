import math

import numpy as np
import pandas as pd
import pytest

from ctssl.config.evaluation import Target
from ctssl.errors import CohortError, ManifestError
from ctssl.evaluate.labels import feature_matrix, join_labels, one_spelling, read_labels, sort_classes

NUMBER = Target(name="fev1", column="FEV1pp", task="regress")
LOG = Target(name="log-fev1", column="FEV1pp", task="regress", log=True)
CLASS = Target(name="gold", column="finalGold", task="classify")


def test_missing_labels_are_left_out_and_the_order_stays():
    values = {"b": " 2.5 ", "a": "", "c": "NA", "d": "NaN", "e": "-3e1", "f": "  "}
    labels = read_labels(values, NUMBER)
    assert labels.to_dict() == {"b": 2.5, "e": -30.0}
    assert list(labels.index) == ["b", "e"]
    assert labels.dtype == np.float64
    assert labels.name == "fev1"


def test_log_is_natural():
    assert read_labels({"a": "80", "b": "1"}, LOG).to_dict() == {"a": math.log(80), "b": 0.0}


def test_classes_are_names_and_a_whole_number_has_one_name():
    labels = read_labels({"a": "2", "b": "2.0", "c": "-1.00", "d": "severe", "e": "2.5"}, CLASS)
    assert list(labels) == ["2", "2", "-1", "severe", "2.5"]


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["1.50", "1.5", " 1.500 "], ["1.5"] * 3),
        (["01", "1", "+1", "1e0", "1.0"], ["1"] * 5),
        (["007", "9.0"], ["007", "9.0"]),  # nothing to join
        (["+7", "07"], ["+7"] * 2),
        (["-0", "0", ".5", "0.50"], ["0", "0", ".5", ".5"]),
        (["1_0", "10", "\uff11\uff10", "1,0", "na", "", "inf", "nan"], None),
        (["12345678901234567890123", "12345678901234567890124"], None),  # the same float
        (["1e9999999999999", "1" * 700, "sNaN", "1.2.840.1"], None),
    ],
)
def test_one_number_is_written_in_one_way(texts, found):
    got = one_spelling({f"s{i}": text for i, text in enumerate(texts)})
    assert list(got.values()) == (texts if found is None else found)


@pytest.mark.parametrize("target", [NUMBER, LOG, CLASS])
@pytest.mark.parametrize("text", ["-1024", "-1024.0", " -1024 "])
def test_trap_20_the_old_sentinel_is_an_error_with_advice(target, text):
    with pytest.raises(ManifestError, match=r"scan bad.*-1024.*missing") as caught:
        read_labels({"good": "1", "bad": text}, target)
    assert "leave the cell empty" in caught.value.advice
    assert target.column in caught.value.message


@pytest.mark.parametrize("text", ["mild", "0,5", "inf", "1_0", "nan mL"])
def test_a_word_where_a_number_is_needed_names_scan_and_value(text):
    with pytest.raises(ManifestError) as caught:
        read_labels({"good": "1", "scan-7": text}, NUMBER)
    assert f"scan scan-7: {text!r}" in caught.value.message
    assert "good" not in caught.value.message


@pytest.mark.parametrize("text", ["0", "-2"])
def test_log_needs_values_above_zero(text):
    assert read_labels({"s": text}, NUMBER)["s"] == float(text)
    with pytest.raises(ManifestError, match=f"scan s: '{text}' is not above 0"):
        read_labels({"s": text}, LOG)


def test_all_faults_are_listed_up_to_ten():
    with pytest.raises(ManifestError) as caught:
        read_labels({f"s{i}": "x" for i in range(13)}, NUMBER)
    assert caught.value.message.count("scan s") == 10
    assert "and 3 more" in caught.value.message


def test_classes_sort_by_number_only_when_all_are_numbers():
    assert sort_classes(["10", "-1", "2", "10"]) == ["-1", "2", "10"]
    assert sort_classes(["10", "2", "x"]) == ["10", "2", "x"]


def features(**changes):
    table = {"scan": ["a", "b", "c"], "subject": ["p", "p", "q"], "f000": [1.0, 2, 3], "f001": [4.0, 5, 6]}
    return pd.DataFrame({**table, **changes})


def test_join_keeps_labelled_scans_with_their_own_label_and_counts_lost_ones():
    rows, lost = join_labels(features(), pd.Series({"c": 9.0, "x": 1.0, "a": 7.0}), {"p": 1, "q": 0})
    assert rows[["scan", "subject", "fold", "truth"]].values.tolist() == [
        ["a", "p", 1, 7.0],
        ["c", "q", 0, 9.0],
    ]
    assert feature_matrix(rows).tolist() == [[1, 4], [3, 6]]
    assert lost == 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"scan": ["a", "b", "a"]}, "one row of features, but not so: a$"),
        ({"f001": [1, np.nan, 2]}, "finite features, but not so: b$"),
        ({"subject": ["p", "p", "z"]}, "a subject with a fold, but not so: c$"),
    ],
)
def test_join_refuses_tables_that_do_not_fit(changes, expected):
    with pytest.raises(CohortError, match=expected.removesuffix("$")):
        join_labels(features(**changes), pd.Series({"a": 1.0}), {"p": 0, "q": 1})
