"""Who is held out of a fold's training part, and what is planned where little can be done."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from ctssl.config.study import Target
from ctssl.evaluate.folds import HELD, TEST, TRAIN, held_out, plan_fold, predicted, read_fold, write_fold

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
        table = rows(["a"] * 8 + ["b"])
        assert "p008" not in held_out(table, True, 2, seed)


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
    write_fold(tmp_path / "fold.json", 0, plan, found, {"epochs": 3})
    read = read_fold(tmp_path / "fold.json")
    assert (read["fold"], read["record"], read["notes"]) == (0, {"epochs": 3}, [])
    pd.testing.assert_frame_equal(read["predictions"], found.reset_index(drop=True))
    np.testing.assert_array_equal(found[["score_=a", "score_b"]], values)
    assert set(pd.read_csv(tmp_path / "predictions.csv").truth) == {"'=a", "b"}
    assert len(pd.read_csv(tmp_path / "scans.csv")) == 40
