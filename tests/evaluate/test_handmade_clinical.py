"""What is known of a subject without a scan, as features."""

import numpy as np
import pandas as pd
import pytest
from evaluate.test_probes import CLASS, NUMBER
from sklearn.base import clone

from ctssl.errors import ManifestError
from ctssl.evaluate import metrics
from ctssl.evaluate.handmade.clinical import Clinical, clinical_table
from ctssl.evaluate.handmade.steps import split_off
from ctssl.evaluate.probes import probe
from ctssl.evaluate.splits import assign_folds

SCANS = ["a", "b", "c", "d", "e"]
AGE = dict(zip(SCANS, ["50", "60", "", "80", "1000"], strict=True))
SEX = dict(zip(SCANS, ["f", "m", "m", "na", "x"], strict=True))


def table():
    return clinical_table(SCANS, SCANS, {"age": AGE, "sex": SEX})


def test_numbers_are_numbers_and_all_else_is_a_class():
    found = table()
    np.testing.assert_array_equal(found.f000, [50, 60, np.nan, 80, 1000])
    np.testing.assert_array_equal(found.f001, [0, 1, 1, np.nan, 2])
    assert found.attrs["fitted"] == {
        "kind": "clinical",
        "columns": ["age", "sex"],
        "kinds": ["numbers", "classes"],
        "notes": ["clinical columns: age (numbers), sex (classes)"],
    }


def test_a_cell_that_makes_numbers_classes_is_told_of(capsys):
    mixed = clinical_table(SCANS, SCANS, {"age": AGE | {"a": "about 60"}, "sex": SEX})
    assert mixed.attrs["fitted"]["kinds"] == ["classes", "classes"]
    said = "clinical columns: age (classes, as 1 of 4 values is no number), sex (classes)"
    assert mixed.attrs["fitted"]["notes"] == [said]
    assert "column age: scan a holds 'about 60'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["-1024", "-1024.0"])
def test_the_old_sign_for_a_missing_value_is_refused(text):
    with pytest.raises(ManifestError, match=r"column age.*-1024.*scan\(s\) b, d") as caught:
        clinical_table(SCANS, SCANS, {"sex": SEX, "age": AGE | {"b": text, "d": text}})
    assert "leave" in caught.value.advice


def test_what_is_filled_in_and_which_classes_there_are_comes_from_training():
    scans, step = split_off(table(), SCANS)
    assert isinstance(step, Clinical)
    numbers = scans[["f000"]].to_numpy()
    fitted = clone(step).fit(numbers[:4])
    # age, f, m, age missing, sex missing: the median of 50, 60, 80, and m; x is no class of training.
    expected = [
        *([50, 1, 0, 0, 0], [60, 0, 1, 0, 0], [60, 0, 1, 1, 0], [80, 0, 1, 0, 1], [1000, 0, 0, 0, 0]),
    ]
    np.testing.assert_array_equal(fitted.transform(numbers), expected)
    whole = clone(step).fit(numbers[:2])
    np.testing.assert_array_equal(whole.transform(numbers)[2], [55, 0, 1])  # nobody missed anything then


@pytest.mark.parametrize("column", [AGE, SEX])
def test_one_kind_of_column_is_enough(column):
    scans, step = split_off(clinical_table(SCANS, SCANS, {"one": column}), SCANS)
    numbers = scans[["f000"]].to_numpy()
    assert np.isfinite(step.fit(numbers).transform(numbers)).all()


def test_a_column_of_which_nothing_is_known_says_nothing():
    nothing = clinical_table(SCANS, SCANS, {"none": dict.fromkeys(SCANS, ""), "age": AGE})
    scans, step = split_off(nothing, SCANS)
    numbers = scans[["f000"]].to_numpy()
    found = step.fit(numbers).transform(numbers)
    assert np.ptp(found[:, 0]) == 0


def test_a_clinical_effect_is_found_by_a_probe(monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 20)
    rng = np.random.default_rng(0)
    scans = [f"s{i:02}" for i in range(60)]
    age, sex = rng.uniform(40, 80, 60), rng.choice(["f", "m"], 60)
    columns = {
        "age": {s: "" if i % 9 == 0 else f"{a:.1f}" for i, (s, a) in enumerate(zip(scans, age, strict=True))},
        "sex": dict(zip(scans, sex, strict=True)),
    }
    labels = pd.Series(age / 10 + 3 * (sex == "m") + 0.3 * rng.normal(size=60), scans)
    features, step = split_off(clinical_table(scans, scans, columns), scans)
    folds = assign_folds(scans, None, 4, 0, {})
    found = probe(features, labels, folds, NUMBER, step=step)
    assert found.metrics["r2"]["value"] > 0.75


def test_nothing_at_all_predicts_the_mean_or_the_largest_class(monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 20)
    scans = [f"s{i:02}" for i in range(40)]
    nothing = pd.DataFrame({"scan": scans, "subject": scans, "f000": 0.0})
    folds = assign_folds(scans, None, 4, 0, {})
    rng = np.random.default_rng(0)
    number = probe(nothing, pd.Series(rng.normal(size=40), scans), folds, NUMBER)
    assert number.metrics["r2"]["value"] == pytest.approx(0)
    np.testing.assert_allclose(number.predictions.prediction, number.predictions.null)
    names = pd.Series(["0"] * 28 + ["1"] * 12, scans, dtype=object)
    named = probe(nothing, names, folds, CLASS)
    assert named.metrics["accuracy"]["value"] == named.majority == 0.7
    shares = names.map({"0": 0.0, "1": 1.0})
    for fold, part in named.predictions.groupby("fold"):
        expected = shares[[s for s in scans if folds[s] != fold]].mean()
        np.testing.assert_allclose(part.score_1, expected, atol=1e-3)
