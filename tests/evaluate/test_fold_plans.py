"""Who is held out of a fold's training part, and what is planned where little can be done."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from ctssl.config.evaluation import Target
from ctssl.evaluate.folds import (
    HELD,
    TEST,
    TRAIN,
    held_out,
    plan_fold,
    predicted,
    read_fold,
    write_fold,
)
from ctssl.evaluate.joining import joined

CLASSIFY = Target(name="severe", column="severe", task="classify")
REGRESS = Target(name="fev1pp", column="fev1pp", task="regress")


def rows(truth, subjects=None, folds=5):
    """Scans of these labels, of subjects dealt to the folds in turn."""
    subjects = subjects or [f"p{n:03}" for n in range(len(truth))]
    number = {s: n for n, s in enumerate(dict.fromkeys(subjects))}
    fold = [number[s] % folds for s in subjects]
    names = [f"s{n:03}" for n in range(len(truth))]
    return pd.DataFrame({"scan": names, "subject": subjects, "fold": fold, "truth": truth})


def test_the_share_held_out_is_balanced_over_classes():
    table = rows(["a"] * 60 + ["b"] * 30 + ["c"] * 10)
    for seed in (0, 1):
        held = held_out(table, True, 5, seed)
        counts = Counter(table.truth[table.subject.isin(held)])
        assert counts == {"a": 12, "b": 6, "c": 2}
    assert held_out(table, True, 5, 0) == held_out(table.sample(frac=1, random_state=3), True, 5, 0) != held


def test_the_share_held_out_is_balanced_over_quarters_of_numbers():
    table = rows(np.random.default_rng(0).normal(size=80))
    held = table.subject.isin(held_out(table, False, 5, 0))
    quarter = pd.qcut(table.truth, 4, labels=False)
    assert Counter(quarter[held]) == {0: 4, 1: 4, 2: 4, 3: 4}


def test_a_class_with_one_subject_stays_in_training():
    for seed in range(20):
        table = rows(["a"] * 7 + ["b"])
        held = held_out(table, True, 2, seed)
        assert "p007" not in held
        assert len(held) == 4, "its place among the held out is another's"


def of_several_classes():
    """p0 alone has a z; p1 and p2 share a w, whose other classes are as rare."""
    subjects = ["p0", "p0", "p1", "p1", "p2", "p2", "p3", "p4", *[f"q{n}" for n in range(8)]]
    return rows(["a", "z", "w", "x", "w", "y", "x", "y", *"aabbaabb"], subjects)


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_every_class_is_among_those_trained_on(parts):
    rng, some = np.random.default_rng(0), of_several_classes()
    tables = [some.sample(frac=1, random_state=seed) for seed in range(2)]
    for _ in range(20):
        subjects = [f"p{n}" for n in rng.integers(0, 12, 24)]
        tables.append(rows(rng.choice(list("aaaabbcd"), 24).tolist(), subjects))
    for table in tables:
        for seed in range(30):
            held = held_out(table, True, parts, seed)
            assert set(table.truth[~table.subject.isin(held)]) == set(table.truth)
    assert held_out(tables[0], True, parts, 4) == held_out(tables[1], True, parts, 4)


def test_a_subject_of_several_classes_counts_for_the_rarest():
    """All have an `a`, and every second one also a `z`: of either kind as many are held out."""
    names = [f"p{n:02}" for n in range(20)]
    table = rows(["a"] * 20 + ["z"] * 10, [*names, *names[::2]])
    for seed in range(10):
        held = held_out(table, True, 5, seed)
        assert sorted(int(name[1:]) % 2 for name in held) == [0, 0, 1, 1]


def test_subjects_are_held_out_with_all_their_scans():
    subjects = [f"p{n // 2}" for n in range(40)]
    plan = plan_fold(rows([float(n) for n in range(40)], subjects), 0, REGRESS, 4, 0)
    parts = plan.rows.groupby("subject").part.nunique()
    assert (parts == 1).all()
    assert set(plan.rows.part) == {TRAIN, HELD, TEST}
    assert set(plan.of(TEST).fold) == {0}
    assert 0 not in set(plan.of(TRAIN, HELD).fold)
    assert plan.network
    assert plan.notes == []


@pytest.mark.parametrize(
    ("table", "target", "network", "note"),
    [
        (rows(["a", "b"] * 3), CLASSIFY, True, "too few subjects to hold any out"),
        (rows(["b", "a", "a", "a"], folds=4), CLASSIFY, False, "one class in training, so a is predicted"),
        (rows([1.0, 2.0, 3.0], ["p", "q", "q"], folds=2), REGRESS, False, "its mean is predicted"),
        (rows(["a"] * 9), CLASSIFY, False, None),
        (rows([1.0, 2.0], ["p", "p"]), REGRESS, False, None),
        (rows([]), REGRESS, False, None),
    ],
)
def test_what_is_planned_where_little_can_be_done(table, target, network, note):
    plan = plan_fold(table, 0, target, 5, 0)
    assert plan.network == network
    assert not (plan.rows.part == HELD).any()
    assert (plan.notes == []) if note is None else (note in plan.notes[0])


def test_a_fold_without_test_scans_trains_nothing():
    table = rows([float(n) for n in range(20)])
    assert not plan_fold(table[table.fold != 3], 3, REGRESS, 5, 0).network


def test_without_a_network_the_mean_or_the_class_is_predicted():
    plan = plan_fold(rows([1.0, 2.0, 4.0], ["p", "q", "q"], folds=2), 0, REGRESS, 5, 0)
    assert predicted(plan, None)[["prediction", "null"]].to_numpy().tolist() == [[3, 3]]
    plan = plan_fold(rows(["b", "a", "a", "a"], folds=4), 0, CLASSIFY, 5, 0)
    found = predicted(plan, None)
    assert found[["truth", "prediction", "score_a"]].to_numpy().tolist() == [["b", "a", 1.0]]


def test_a_fold_is_read_as_it_was_written(tmp_path):
    plan = plan_fold(rows(["=a", "b"] * 20), 0, CLASSIFY, 5, 0)
    values = np.random.default_rng(0).dirichlet([1, 1], 8)
    found = predicted(plan, values)
    write_fold(tmp_path / "fold.json", 0, plan, found, {"epochs": 3}, {"s000": "digest"})
    read = read_fold(tmp_path / "fold.json")
    assert (read["fold"], read["record"], read["notes"]) == (0, {"epochs": 3}, [])
    assert read["made_of"] == {"s000": "digest"}
    pd.testing.assert_frame_equal(read["predictions"], found.reset_index(drop=True))
    np.testing.assert_array_equal(found[["score_=a", "score_b"]], values)
    assert set(pd.read_csv(tmp_path / "predictions.csv").truth) == {"'=a", "b"}
    assert len(pd.read_csv(tmp_path / "scans.csv")) == 40


TWELVE = rows([float(n) for n in range(12)], folds=2)
AGAIN = "which `ctssl refresh RUN` repeats"


def note(seen, now=TWELVE, changed=()):
    """How many scans are joined, and what is said, of folds that saw these rows, each its own."""
    read, rng = [], np.random.default_rng(0)
    for fold, table in enumerate(seen):
        plan = plan_fold(table, fold, REGRESS, 5, 0)
        found = predicted(plan, rng.normal(size=(len(plan.of(TEST)), 1))) if plan.network else None
        about = {"fold": fold, "record": {}, "notes": [], "predictions": found}
        read.append({**about, "made_of": dict.fromkeys(table.scan, "as it was")})
    made_of = dict.fromkeys(now.scan, "as it was") | dict.fromkeys(changed, "other")
    result = joined(now, 0, read, dict(zip(now.subject, now.fold, strict=True)), REGRESS, made_of)
    assert result.predictions.empty == (result.metrics is None)
    return result.n, result.note.split("; ")[1:]


def test_what_changed_since_the_training_is_said():
    assert note([TWELVE, TWELVE]) == (12, [])
    one = f"1 scan(s) have another store or box than in the training, {AGAIN}"
    assert note([TWELVE, TWELVE], changed=["s003"]) == (12, [one])
    late = f"1 labelled scan(s) came after the training, {AGAIN}"
    assert note([TWELVE[:-1]] * 2) == (11, [late])
    gone = "1 scan(s) of the training are excluded by now"
    assert note([TWELVE] * 2, TWELVE[:-1]) == (11, [gone])
    assert note([TWELVE] * 2, TWELVE[:-1], ["s003"]) == (11, [gone, one])


def test_folds_that_saw_different_scans_are_told_of():
    """The last scan is tested in fold 1: when only fold 0 saw it, nothing predicts it."""
    said = f"1 scan(s) came or went between the trainings of the folds, {AGAIN} on the same"
    assert note([TWELVE[:-1], TWELVE]) == (12, [said])
    assert note([TWELVE, TWELVE[:-1]]) == (11, [said])


def test_where_nothing_could_be_measured_later_scans_change_nothing():
    first, second = TWELVE[TWELVE.fold == 0], TWELVE[TWELVE.fold == 1]
    nothing = "fewer than 2 folds with labelled scans, so nothing is measured"
    late = f"6 labelled scan(s) came after the training, {AGAIN}"
    assert note([first, first]) == (6, [late, nothing])
    assert note([first, first], first) == (6, [nothing])
    between = f"12 scan(s) came or went between the trainings of the folds, {AGAIN} on the same"
    assert note([second, first]) == (0, [between, nothing])
