"""Which labelled scans are cases: one for each subject, and rare classes."""

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from ctssl.config.evaluation import Target
from ctssl.errors import ConfigError
from ctssl.evaluate.cases import Averaged, Cases, choose, per_subject, visit_order, without_rare
from ctssl.evaluate.probes import probe

NUMBER = Target(name="fev1", column="fev1", task="regress")
GRADE = Target(name="grade", column="grade", task="classify")


def table(subjects: str, width: int = 2) -> pd.DataFrame:
    """A scan a, b, ... for each letter, which names its subject, with features 10 i and 10 i + 1."""
    names = [chr(ord("a") + i) for i in range(len(subjects))]
    values = 10.0 * np.arange(len(names))[:, None] + np.arange(width)
    found = pd.DataFrame(values, columns=[f"f{i:03}" for i in range(width)])
    found.insert(0, "scan", names)
    found.insert(1, "subject", list(subjects))
    found.attrs["made_by"] = "it"
    return found


class Turned(PCA):
    """A step that says how many scans it was fitted on, and how many of them are in each inner fold."""

    def notes(self, x, inner):
        return [f"{len(x)} scans", *([] if inner is None else [f"folds of {np.bincount(inner).tolist()}"])]


def labels(values, scans="abcdefghijklmnopqrstuvwxyz", kind=object) -> pd.Series:
    return pd.Series(list(values), list(scans[: len(values)]), dtype=kind)


def classes(counts: dict[str, int]) -> Cases:
    """One scan a subject, so many of each class."""
    names = [name for name, count in counts.items() for _ in range(count)]
    scans = [f"s{i:03}" for i in range(len(names))]
    features = pd.DataFrame({"scan": scans, "subject": scans, "f000": 0.0})
    return Cases(features, pd.Series(names, scans, dtype=object))


def counted(cases: Cases) -> dict[str, int]:
    return cases.labels.value_counts().to_dict()


def test_all_scans_are_cases_unless_it_is_said():
    given = Cases(table("xxy"), labels([1.0, 2, 3], kind=float))
    assert per_subject(given, NUMBER, "all", {}) is given
    alone = Cases(table("xyz"), labels([1.0, 2, 3], kind=float))
    assert per_subject(alone, NUMBER, "mean", visit_order("abc", None)) is alone


def test_visits_are_sorted_by_number_then_by_word_and_what_is_not_known_is_last():
    visits = {"a": "10", "b": "2", "c": "", "d": "late", "e": "2", "f": "NA", "g": "baseline"}
    order = visit_order("abcdefg", visits)
    assert sorted(order, key=order.get) == list("beagdcf")
    assert sorted(visit_order("cab", None), key=visit_order("cab", None).get) == list("cab")


def test_the_first_labelled_scan_stands_for_its_subject():
    # x has a, b, e; b comes first by visit, but has no label; a is later than e.
    given = Cases(table("xxyzx"), labels([5.0, 7, 8, 9], "acde", float))
    order = visit_order("abcde", {"a": "3", "b": "1", "c": "1", "d": "1", "e": "2"})
    got = per_subject(given, NUMBER, "first", order)
    assert dict(zip(got.features.subject, got.features.scan, strict=True)) == {"y": "c", "z": "d", "x": "e"}
    assert got.labels.to_dict() == {"c": 7, "d": 8, "e": 9}
    assert got.features.attrs == {"made_by": "it"}
    assert "4 scans of 3 subjects" in got.notes[0]


def test_a_label_without_features_is_still_counted_as_lost():
    given = Cases(table("xx"), labels([1.0, 2, 3], "abq", float))
    got = per_subject(given, NUMBER, "first", visit_order("abq", None))
    assert got.labels.to_dict() == {"a": 1, "q": 3}


def test_a_mean_is_that_of_features_and_of_numbers():
    given = Cases(table("xxy"), labels([1.0, 4, 7], kind=float))
    got = per_subject(given, NUMBER, "mean", visit_order("bac", None))
    assert got.features.drop(columns=["f000", "f001"]).to_numpy().tolist() == [["b", "x"], ["c", "y"]]
    assert got.features[["f000", "f001"]].to_numpy().tolist() == [[5, 6], [20, 21]]
    assert got.labels.to_dict() == {"b": 2.5, "c": 7}
    assert got.features.attrs == {"made_by": "it"}


def test_the_most_frequent_class_is_that_of_a_subject_and_of_equals_the_first():
    given = Cases(table("xxxyy"), labels("abbdc"))
    order = visit_order("abced", None)  # of y the scan e, of class c, comes first
    got = per_subject(given, GRADE, "mean", order)
    assert got.labels[got.features.set_index("subject").scan["x"]] == "b"
    assert got.labels[got.features.set_index("subject").scan["y"]] == "c"


def test_a_step_makes_features_of_each_scan_and_their_mean_is_the_subject():
    rng = np.random.default_rng(0)
    groups = [rng.normal(size=(k, 5)) for k in (1, 3, 2, 4)]
    step = Averaged(PCA(2), groups).fit(np.array([[0], [1], [3]]))
    truth = PCA(2).fit(np.concatenate([groups[i] for i in (0, 1, 3)]))
    expected = [truth.transform(groups[i]).mean(0) for i in (2, 0)]
    np.testing.assert_allclose(step.transform(np.array([[2.0], [0.0]])), expected)


def test_what_a_step_says_is_of_the_scans_of_all_groups():
    step = Averaged(Turned(1), [np.zeros((k, 5)) for k in (1, 3, 2, 4)])
    groups = np.array([[0], [1], [3]])
    assert step.notes(groups, None) == ["8 scans"]
    assert step.notes(groups, np.array([1, 0, 1])) == ["8 scans", "folds of [3, 5]"]


def test_a_step_and_its_means_go_through_a_whole_probe():
    rng = np.random.default_rng(1)
    subjects = [f"p{i:02}" for i in range(20) for _ in range(2)]
    features = pd.DataFrame(rng.normal(size=(40, 3)), columns=["f000", "f001", "f002"])
    features.insert(0, "scan", [f"s{i:02}" for i in range(40)])
    features.insert(1, "subject", subjects)
    known = pd.Series(features.f000.to_numpy(), features.scan)
    order, folds = (
        visit_order(list(features.scan), None),
        {s: i % 4 for i, s in enumerate(sorted(set(subjects)))},
    )
    plain = choose(Cases(features, known), NUMBER, "mean", order, "keep", 4)
    stepped = choose(Cases(features, known, Turned(3)), NUMBER, "mean", order, "keep", 4)
    results = [probe(c.features, c.labels, folds, NUMBER, step=c.step) for c in (plain, stepped)]
    assert [r.n for r in results] == [20, 20]
    assert all(r.metrics["r2"]["value"] > 0.99 for r in results)
    assert "fold 0: 30 scans; fold 0: folds of [6, 6, 6, 6, 6]" in results[1].note


def test_rare_classes_stay_unless_it_is_said():
    given = classes({"0": 9, "1": 2})
    assert without_rare(given, GRADE, "keep", 5) is given
    assert without_rare(classes({"0": 9, "1": 5}), GRADE, "drop", 5).notes == ()
    assert without_rare(given, NUMBER, "drop", 5) is given


def test_mosmed_has_two_scans_of_its_last_class():
    given = classes({"0": 254, "1": 684, "2": 125, "3": 45, "4": 2})
    merged = without_rare(given, GRADE, "merge", 5)
    assert counted(merged) == {"0": 254, "1": 684, "2": 125, "3": 47}
    assert "4 (2 subjects) is counted as 3, which then has 47" in merged.notes[0]
    dropped = without_rare(given, GRADE, "drop", 5)
    assert counted(dropped) == {"0": 254, "1": 684, "2": 125, "3": 45}
    assert len(dropped.features) == 1108
    assert "left out: 4 (2)" in dropped.notes[0]


def test_a_rare_class_in_the_middle_goes_to_the_larger_neighbour_and_merging_goes_on_until_none_is_rare():
    assert counted(without_rare(classes({"0": 8, "1": 2, "2": 9}), GRADE, "merge", 5)) == {"0": 8, "2": 11}
    assert counted(without_rare(classes({"0": 8, "1": 2, "2": 8}), GRADE, "merge", 5)) == {"0": 10, "2": 8}
    steps = without_rare(classes({"0": 7, "1": 1, "2": 9, "3": 3, "4": 4}), GRADE, "merge", 5)
    assert counted(steps) == {"0": 7, "2": 17}
    assert steps.notes[0].index("1 (1 subjects)") < steps.notes[0].index("3 (3 subjects)")


def test_a_class_is_rare_by_its_subjects_and_not_by_its_scans():
    features = pd.DataFrame({"scan": list("abcdefgh"), "subject": list("xxxxvwyz"), "f000": 0.0})
    known = pd.Series(list("11110000"), list("abcdefgh"), dtype=object)
    dropped = without_rare(Cases(features, known), GRADE, "drop", 2)
    assert set(dropped.features.subject) == set("vwyz")


def test_classes_without_an_order_are_not_merged():
    named = classes({"mild": 9, "severe": 2})
    with pytest.raises(ConfigError, match="mild, severe have no order") as fault:
        without_rare(named, GRADE, "merge", 5)
    assert "ordered: true" in fault.value.advice
    ordered = GRADE.model_copy(update={"ordered": True})
    assert counted(without_rare(named, ordered, "merge", 5)) == {"mild": 11}
    with pytest.raises(ConfigError):
        without_rare(classes({"0": 9, "1": 2}), GRADE.model_copy(update={"ordered": False}), "merge", 5)
