"""Comparisons of rows: by enumeration, by simulation, and on planted differences."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from ctssl.config.evaluation import Target
from ctssl.evaluate import metrics, pairs
from ctssl.evaluate.pairs import COLUMNS, compare, holm, page, pairs_table, sign_flip, write_pairs

NUMBER = Target(name="fev1", column="fev1", task="regress")
CLASS = Target(name="gold", column="gold", task="classify")
DEATH = Target(name="death", column="days", task="survive", event="died")


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 300)
    monkeypatch.setattr(pairs, "RESAMPLES", 999)


def numbers(truth, sd, seed, scans_each=1, repeats=1):
    """Predictions with an error of this sd, of scans whose truths these are."""
    rng = np.random.default_rng(seed)
    n = len(truth)
    one = pd.DataFrame({"scan": [f"s{i:03}" for i in range(n)], "truth": truth, "null": 0.0})
    one["subject"] = [f"p{i // scans_each:03}" for i in range(n)]
    parts = [one.assign(repeat=r, prediction=truth + sd * rng.normal(size=n)) for r in range(repeats)]
    return pd.concat(parts, ignore_index=True)


def test_signs_are_all_tried_where_they_are_few():
    differences = np.array([0.3, 0.9, -0.2, 0.4, 0.6])
    means = [np.mean(differences * signs) for signs in product([1, -1], repeat=5)]
    # Two-sided: twice the smaller side, as of scipy.
    expected = 2 * np.mean([mean >= differences.mean() - 1e-12 for mean in means])
    assert sign_flip(differences) == pytest.approx(expected)


def test_rows_that_say_the_same_do_not_differ():
    assert sign_flip(np.zeros(20)) == 1.0
    table = numbers(np.random.default_rng(0).normal(size=30), 1.0, 1)
    got = compare([table], [table], NUMBER)
    assert (got.difference, got.low, got.high, got.loss_difference, got.p) == (0, 0, 0, 0, 1)


def test_the_difference_is_that_of_the_metric_and_of_the_losses():
    truth = np.random.default_rng(0).normal(size=40)
    own, other = numbers(truth, 0.5, 1), numbers(truth, 1.0, 2)
    got = compare([own], [other], NUMBER)

    def r2(table):
        return 1 - ((table.truth - table.prediction) ** 2).sum() / (truth**2).sum()

    assert got.value == pytest.approx(r2(own))
    assert got.difference == pytest.approx(r2(own) - r2(other))
    expected = ((own.prediction - truth) ** 2 - (other.prediction - truth) ** 2).mean()
    assert got.loss_difference == pytest.approx(expected)
    assert 0 < got.low < got.difference < got.high
    assert got.p < 0.01


def test_seeds_and_repeats_are_averaged_and_a_subject_counts_once(monkeypatch):
    # As many as in use: 10 subjects allow 1,024 ways, which are all tried, 40 scans would be drawn of.
    monkeypatch.setattr(pairs, "RESAMPLES", 9999)
    truth = np.random.default_rng(0).normal(size=40)
    seeds = [numbers(truth, 0.5, seed, scans_each=4, repeats=2) for seed in (1, 2)]
    other = numbers(truth, 1.0, 3, scans_each=4, repeats=2)
    got = compare(seeds, [other], NUMBER)
    assert (got.scans, got.subjects) == (40, 10)
    splits = [part for table in seeds for _, part in table.groupby("repeat")]
    each = [1 - ((p.truth - p.prediction) ** 2).sum() / (truth**2).sum() for p in splits]
    assert got.value == pytest.approx(np.mean(each))
    ours, theirs = (
        np.mean([(p.truth - p.prediction) ** 2 for p in parts], axis=0).reshape(10, 4).mean(1)
        for parts in (splits, [part for _, part in other.groupby("repeat")])
    )
    ways = np.array(list(product([1, -1], repeat=10))) @ (ours - theirs)
    assert got.loss_difference == pytest.approx((ours - theirs).mean())
    assert got.p == pytest.approx(2 * (ways <= ways[0] + 1e-9).mean())
    assert got.p >= 2 / 1024


def test_only_scans_that_both_predicted_count():
    truth = np.random.default_rng(0).normal(size=30)
    own, other = numbers(truth, 0.5, 1), numbers(truth, 1.0, 2)
    got = compare([own[own.scan >= "s010"]], [other], NUMBER)
    same = compare([own[own.scan >= "s010"]], [other[other.scan >= "s010"]], NUMBER)
    assert (got.scans, got.difference, got.p) == (20, same.difference, same.p)
    assert got.note == "10 scan(s) that only one of both predicted are left out"
    said = compare([own[own.scan < "s020"]], [other[other.scan >= "s015"]], NUMBER)
    assert said.note == "25 scan(s) that only one of both predicted are left out", "of either"
    none = compare([own[:10]], [other[10:]], NUMBER)
    assert none.p is None
    assert "nothing is compared" in none.note


def classes(truth, share, seed):
    rng = np.random.default_rng(seed)
    right = rng.random(len(truth)) < share
    table = pd.DataFrame({"scan": [f"s{i:03}" for i in range(len(truth))], "truth": truth, "repeat": 0})
    return table.assign(subject=table.scan, prediction=np.where(right, truth, "9"))


def test_classes_are_compared_by_their_accuracy():
    truth = np.array(["0", "1"] * 40)
    own, other = classes(truth, 0.9, 1), classes(truth, 0.5, 2)
    got = compare([own], [other], CLASS)
    assert got.value == pytest.approx((own.truth == own.prediction).mean())
    assert got.difference == pytest.approx(-got.loss_difference)
    assert got.low > 0
    assert got.p < 0.01


def test_only_scans_whose_truth_is_the_same_count():
    """As of means over other scans of a subject."""
    truth = np.random.default_rng(0).normal(size=30)
    own, other = numbers(truth, 0.5, 1), numbers(truth, 1.0, 2)
    moved = other.assign(truth=other.truth.where(other.scan >= "s012", 7.0))
    got, same = compare([own], [moved], NUMBER), compare([own[12:]], [other[12:]], NUMBER)
    assert (got.scans, got.difference, got.p) == (18, same.difference, same.p)
    assert got.note == "12 scan(s) whose truth is not the same in both are left out"
    assert compare([own, moved], [other], NUMBER).scans == 18, "of either seed"
    none = compare([own], [other.assign(truth=7.0)], NUMBER)
    assert none.p is None
    assert "30 scan(s) whose truth" in none.note
    assert "nothing is compared" in none.note


def test_rows_of_other_classes_are_not_compared():
    """As when one row has a scan less, and so merges a class that is rare."""
    truth = np.array(["0"] * 30 + ["1"] * 30 + ["2"] * 5)
    own, other = classes(truth, 0.9, 1), classes(np.where(truth == "2", "1", truth), 0.9, 2)
    for row, reference in ((own, other), (other, own)):
        got = compare([row], [reference], CLASS)
        assert (got.difference, got.loss_difference, got.p) == (None, None, None)
        assert "classes 0, 1 and 0, 1, 2" in got.note
        assert "nothing is compared" in got.note
    swapped = other.assign(truth=truth)
    swapped.loc[:2, "truth"] = "1"
    got = compare([own], [swapped], CLASS)
    assert got.scans == 62, "a subject of another class is left out"
    assert got.p is not None


def test_times_are_compared_by_their_concordance():
    pytest.importorskip("sksurv")
    from ctssl.evaluate.survival import concordance

    rng = np.random.default_rng(0)
    truth = np.where(rng.random(80) < 0.6, 1, -1) * rng.exponential(1, 80)
    good = numbers(truth, 0, 1).assign(prediction=-np.abs(truth) + 0.3 * rng.normal(size=80))
    bad = numbers(truth, 0, 1).assign(prediction=rng.normal(size=80))
    got = compare([good], [bad], DEATH)
    assert got.value == pytest.approx(concordance(truth, good.prediction.to_numpy()))
    assert got.reference_value == pytest.approx(concordance(truth, bad.prediction.to_numpy()))
    assert got.low > 0
    assert got.p < 0.02
    assert got.loss_difference is None
    assert compare([bad], [bad], DEATH).p == 1.0
    back = compare([bad], [good], DEATH)
    assert back.high < 0
    assert back.p == pytest.approx(got.p)


def test_holm_multiplies_as_in_his_paper():
    # 0.01 x 3, then 0.03 x 2; the last may not fall below the one before.
    assert holm([0.04, None, 0.01, 0.03]) == pytest.approx([0.06, None, 0.03, 0.06])
    assert holm([None]) == [None]


def test_without_differences_the_error_rate_holds(monkeypatch):
    """Four rows beside a reference, all noise: any false alarm in at most about 5 % of 200 cohorts."""
    monkeypatch.setattr(pairs, "RESAMPLES", 199)
    rng = np.random.default_rng(5)
    raw, alarms = [], 0
    for _ in range(200):
        losses = rng.normal(size=(5, 25)) ** 2
        ps = [sign_flip(losses[row] - losses[0]) for row in range(1, 5)]
        raw.append(ps[0])
        alarms += min(holm(ps)) <= 0.05
    assert alarms <= 0.05 * 200 + 2 * np.sqrt(0.05 * 0.95 * 200)
    # A single p is even: as many below a half as above, and few below 0.1.
    assert 0.4 < np.mean(np.array(raw) <= 0.5) < 0.6
    assert 0.04 < np.mean(np.array(raw) <= 0.1) < 0.17


def test_the_table_has_a_line_for_each_other_row_and_corrects_by_target(tmp_path):
    truth = np.random.default_rng(0).normal(size=40)
    rows = {
        "ours": {"fev1": [numbers(truth, 0.4, 1)], "gold": [classes(np.array(["a", "b"] * 20), 0.8, 1)]},
        "=noise|": {"fev1": [numbers(truth, 2, 2)], "gold": [classes(np.array(["a", "b"] * 20), 0.8, 2)]},
        "empty": {"fev1": [], "gold": []},
        "numbers only": {"fev1": [numbers(truth, 0.4, 3)]},
    }
    table = pairs_table(rows, "ours", [NUMBER, CLASS])
    assert list(table.columns) == list(COLUMNS)
    assert list(zip(table.target, table.row, strict=True)) == [
        *[("fev1", name) for name in ("=noise|", "empty", "numbers only")],
        *[("gold", name) for name in ("=noise|", "empty")],
    ]
    noise, empty, other = (table.iloc[i] for i in range(3))
    assert noise.p_holm == pytest.approx(2 * noise.p)
    assert pd.isna(empty.p)
    assert "no predictions" in empty.note
    assert other.p > 0.05
    write_pairs(table, "ours", tmp_path / "pairs.csv", tmp_path / "pairs.md")
    assert "'=noise|" in (tmp_path / "pairs.csv").read_text()
    text = (tmp_path / "pairs.md").read_text()
    assert "optimistic" in text
    assert "| fev1: r2 | =noise\\| | -" in text
    assert "- empty, gold: " in text


def test_a_page_of_nothing_is_a_page():
    assert "# Comparisons" in page(pairs_table({"ours": {}}, "ours", []), "ours")
