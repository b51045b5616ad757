"""What networks trained on labels say of a subject with several scans, when subjects are means."""

import numpy as np
import pandas as pd
import pytest

from ctssl.config.evaluation import Target
from ctssl.errors import CohortError
from ctssl.evaluate.joining import joined

NUMBER = Target(name="fev1", column="fev1", task="regress")
GRADE = Target(name="grade", column="grade", task="classify")
SCANS = [f"s{n}" for n in range(8)]
SUBJECTS = ["a", "a", "b", "b", "c", "c", "d", "d"]
FOLDS = {"a": 0, "b": 1, "c": 0, "d": 1}
MADE_OF = dict.fromkeys(SCANS, "digest")
ORDER = {scan: place for place, scan in enumerate(reversed(SCANS))}  # the second scan came first


def rows(truth):
    return pd.DataFrame(
        {"scan": SCANS, "subject": SUBJECTS, "fold": [FOLDS[s] for s in SUBJECTS], "truth": truth}
    )


def read(table, **said):
    """What the files of both folds say."""
    whole = table.assign(**said)
    return [
        {
            "fold": f,
            "record": {},
            "notes": [],
            "made_of": MADE_OF,
            "predictions": whole[whole.fold == f].reset_index(drop=True),
        }
        for f in (0, 1)
    ]


def test_numbers_are_averaged_over_the_scans_of_a_subject():
    table = rows([1.0, 3, 5, 5, 2, 4, 8, 9])
    guess = np.arange(8.0) ** 2
    result = joined(table, 0, read(table, prediction=guess, null=4.0), FOLDS, NUMBER, MADE_OF, (), ORDER)
    got = result.predictions.set_index("subject")
    assert (result.n, result.subjects) == (4, 4)
    assert got.scan.to_dict() == {"a": "s1", "b": "s3", "c": "s5", "d": "s7"}
    assert got.truth.to_dict() == {"a": 2, "b": 5, "c": 3, "d": 8.5}
    assert got.prediction.to_dict() == {"a": 0.5, "b": 6.5, "c": 20.5, "d": 42.5}
    assert set(got.null) == {4}
    assert "8 scans of 4 subjects" in result.note


def test_probabilities_are_averaged_and_the_likeliest_class_is_the_prediction():
    table = rows(list("00110101"))
    ill = np.array([0.9, 0.3, 0.6, 0.7, 0.1, 0.2, 0.45, 0.5])
    said = {"prediction": np.where(ill > 0.5, "1", "0"), "score_0": 1 - ill, "score_1": ill}
    result = joined(table, 0, read(table, **said), FOLDS, GRADE, MADE_OF, (), ORDER)
    got = result.predictions.set_index("subject")
    assert got.score_1.to_dict() == pytest.approx({"a": 0.6, "b": 0.65, "c": 0.15, "d": 0.475})
    assert got.prediction.to_dict() == {"a": "1", "b": "1", "c": "0", "d": "0"}
    assert got.truth.to_dict() == {"a": "0", "b": "1", "c": "1", "d": "1"}, "of equals the first scan's"


def test_a_subject_is_of_the_class_that_most_scans_had_before_rare_ones_were_merged():
    """Scans of d are 0, 1 and 2, the 0 first, and class 2 is counted as 1."""
    table = rows(list("00111101"))
    table.loc[7] = ["s7", "d", 1, "1"]
    table.loc[8] = ["s8", "d", 1, "1"]
    own = pd.Series(list("001111012"), [*SCANS, "s8"], dtype=object)
    order = {scan: place for place, scan in enumerate(own.index)}
    said = {"prediction": "1", "score_0": 0.4, "score_1": 0.6}
    made_of = MADE_OF | {"s8": "digest"}
    found = [{**one, "made_of": made_of} for one in read(table, **said)]
    for labels, truth in ((None, "1"), (own, "0")):
        result = joined(table, 0, found, FOLDS, GRADE, made_of, (), order, labels)
        assert result.predictions.set_index("subject").truth["d"] == truth
    again = own.where(own != "1", "2")  # of which two of three are 2 now, counted as 1
    result = joined(table, 0, found, FOLDS, GRADE, made_of, (), order, again)
    assert result.predictions.set_index("subject").truth["d"] == "1"


CHANGED = "classes changed since the training"


def test_classes_that_are_counted_otherwise_than_in_the_training_are_refused():
    """Class 2 was trained on and is merged, or gone, by now; or the other way round."""
    then = rows(list("00120112"))
    said = {"prediction": "0", "score_0": 0.4, "score_1": 0.4, "score_2": 0.2}
    merged = then.assign(truth=then.truth.replace("2", "1"))
    for order in (None, ORDER):
        for now, known in ((merged, read(then, **said)), (then, read(merged, **said))):
            with pytest.raises(CohortError, match=CHANGED) as fault:
                joined(now, 0, known, FOLDS, GRADE, MADE_OF, (), order)
            assert "ctssl refresh" in fault.value.advice
        left = then[then.truth != "2"].reset_index(drop=True)
        with pytest.raises(CohortError, match=rf"{CHANGED}: no scan that counts is of class 2 now"):
            joined(left, 0, read(then, **said), FOLDS, GRADE, MADE_OF, (), order)


def test_where_nothing_is_measured_no_class_is_missed():
    then = rows(list("00120112"))
    said = {"prediction": "0", "score_0": 0.4, "score_1": 0.4, "score_2": 0.2}
    left = then[then.truth == "0"].reset_index(drop=True)
    assert joined(left, 0, read(then, **said), FOLDS, GRADE, MADE_OF).metrics is None


def test_without_an_order_every_scan_has_its_own():
    table = rows([1.0, 3, 5, 5, 2, 4, 8, 9])
    found = read(table, prediction=table.truth, null=4.0)
    result = joined(table, 0, found, FOLDS, NUMBER, MADE_OF, ["as told"])
    assert result.n == 8
    assert result.note.endswith("as told")


def test_a_scan_that_came_after_the_training_is_in_no_mean():
    table = rows([1.0, 3, 5, 5, 2, 4, 8, 9])
    found = read(table, prediction=np.arange(8.0) ** 2, null=4.0)
    for one in found:
        one["made_of"] = {scan: "digest" for scan in SCANS if scan != "s1"}
        one["predictions"] = one["predictions"][one["predictions"].scan != "s1"]
    result = joined(table, 0, found, FOLDS, NUMBER, MADE_OF, (), ORDER)
    got = result.predictions.set_index("subject")
    assert (got.scan["a"], got.truth["a"], got.prediction["a"]) == ("s0", 1, 0)
    assert "1 labelled scan(s) came after the training, which `ctssl refresh RUN` repeats" in result.note
    assert "7 scans of 4 subjects" in result.note
