import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn import metrics as truth_of
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from ctssl.config.evaluation import Target
from ctssl.errors import CohortError
from ctssl.evaluate import linear, metrics, probes
from ctssl.evaluate.linear import fit_probe
from ctssl.evaluate.metrics import classification_metrics
from ctssl.evaluate.probes import probe, read_probe, write_probe
from ctssl.evaluate.splits import assign_folds

NUMBER = Target(name="fev1", column="FEV1pp", task="regress")
CLASS = Target(name="gold", column="finalGold", task="classify")


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 40)


def cohort(n=40, d=4, seed=0, scans_each=1, folds=5):
    """Random features of n subjects, folds, and a generator for labels."""
    rng = np.random.default_rng(seed)
    subjects = [f"p{i:03}" for i in range(n) for _ in range(scans_each)]
    table = pd.DataFrame(rng.normal(size=(len(subjects), d)), columns=[f"f{j:03}" for j in range(d)])
    table.insert(0, "scan", [f"s{i:03}" for i in range(len(subjects))])
    table.insert(1, "subject", subjects)
    return table, assign_folds(subjects, None, folds, 0, {}), rng


def numbers(table, rng, noise):
    return pd.Series(3 * table.f000 - table.f001 + noise * rng.normal(size=len(table))).set_axis(table.scan)


def classes(table, rng, noise, names="012"):
    score = table.f000 + noise * rng.normal(size=len(table))
    return pd.Series([names[i] for i in pd.qcut(score, len(names), labels=False)], table.scan)


def parts(result):
    """Out-of-fold predictions by fold."""
    return result.predictions.groupby("fold")


def test_regression_equals_sklearn_by_hand():
    table, folds, rng = cohort()
    labels = numbers(table, rng, 1.0)
    result = probe(table, labels, folds, NUMBER)
    x, y = table.filter(regex="^f0").to_numpy(), labels.to_numpy()
    fold = table.subject.map(folds).to_numpy()
    guess, null, of_fold = np.empty(len(y)), np.empty(len(y)), []
    for record in result.folds:
        test = fold == record["fold"]
        scaler = StandardScaler().fit(x[~test])
        model = Ridge(record["alpha"]).fit(scaler.transform(x[~test]), y[~test])
        guess[test], null[test] = model.predict(scaler.transform(x[test])), y[~test].mean()
        of_fold.append(truth_of.r2_score(y[test], guess[test]))
        assert (record["train"], record["test"]) == ((~test).sum(), test.sum())
    got = result.metrics
    assert got["r2"]["value"] == pytest.approx(1 - ((y - guess) ** 2).sum() / ((y - null) ** 2).sum())
    assert got["r2"]["fold_mean"] == pytest.approx(np.mean(of_fold))
    assert got["r2"]["fold_sd"] == pytest.approx(np.std(of_fold, ddof=1))
    assert got["mae"]["value"] == pytest.approx(truth_of.mean_absolute_error(y, guess))
    assert got["spearman"]["value"] == pytest.approx(spearmanr(y, guess).statistic)
    assert (result.n, result.subjects, result.classes, result.note) == (40, 40, None, "")


def test_classification_equals_sklearn_by_hand():
    table, folds, rng = cohort(45)
    labels = classes(table, rng, 0.7)
    result = probe(table, labels, folds, CLASS)
    x, y = table.filter(regex="^f0").to_numpy(), labels.to_numpy(object)
    fold = table.subject.map(folds).to_numpy()
    guess, score = np.empty(len(y), object), np.empty((len(y), 3))
    for record in result.folds:
        test = fold == record["fold"]
        scaler = StandardScaler().fit(x[~test])
        model = LogisticRegression(C=record["C"], max_iter=9999).fit(scaler.transform(x[~test]), y[~test])
        guess[test], score[test] = (
            f(scaler.transform(x[test])) for f in (model.predict, model.predict_proba)
        )
    got = {name: value["value"] for name, value in result.metrics.items()}
    y, guess = y.astype(int), guess.astype(int)
    assert got["accuracy"] == pytest.approx(truth_of.accuracy_score(y, guess))
    assert got["balanced_accuracy"] == pytest.approx(truth_of.balanced_accuracy_score(y, guess))
    assert got["auroc"] == pytest.approx(truth_of.roc_auc_score(y, score, multi_class="ovr", average="macro"))
    assert got["kappa"] == pytest.approx(truth_of.cohen_kappa_score(y, guess, weights="quadratic"))
    assert result.classes == {"0": 15, "1": 15, "2": 15}
    assert result.majority == pytest.approx(1 / 3)


def test_metrics_by_hand_with_ties_and_a_class_that_is_absent():
    truth, guess = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    scores = np.array([[0.9, 0.1, 0], [0.5, 0.5, 0], [0.5, 0.5, 0], [0.2, 0.8, 0]])
    got = classification_metrics(truth, guess, scores, None)
    # Pairs of a 0 and a 1: two ordered, one tied, one ordered -> 3.5 of 4.
    assert {"accuracy": 0.75, "balanced_accuracy": 0.75, "auroc": 0.875}.items() <= got.items()
    # Values 0, 1, 3 weigh a confusion of 0 and 3 nine times that of 0 and 1.
    got = classification_metrics(
        np.array([0, 2, 1, 0]), np.array([2, 2, 1, 0]), np.eye(3)[[0, 2, 1, 0]], np.array([0, 1, 3])
    )
    chance = (2 * (1 * 1 + 2 * 9) + 1 * (1 * 1 + 2 * 4) + 1 * (1 * 9 + 1 * 4)) / 4
    assert got["kappa"] == pytest.approx(1 - 9 / chance)
    assert got["auroc"] == 1.0


@pytest.mark.parametrize(("target", "make"), [(NUMBER, numbers), (CLASS, classes)])
def test_nothing_of_a_test_scan_reaches_the_model_that_tests_it(target, make):
    table, folds, rng = cohort(30, scans_each=2)
    labels = make(table, rng, 0.5)
    before = probe(table, labels, folds, target).predictions
    one = table.scan[7]
    fold = folds[table.subject[7]]
    changed, other = table.copy(), labels.copy()
    changed.loc[changed.scan == one, ["f000", "f001"]] = 1e3
    other[one] = "2" if target is CLASS else 1e3
    after = probe(changed, other, folds, target).predictions
    here = (before.fold == fold) & (before.scan != one)
    said = ["prediction", "null"] if target is NUMBER else ["prediction", "score_0", "score_1", "score_2"]
    pd.testing.assert_frame_equal(before.loc[here, said], after.loc[here, said])
    elsewhere = before.fold != fold
    assert not before.loc[elsewhere, said].equals(after.loc[elsewhere, said])


@pytest.mark.parametrize(("target", "make"), [(NUMBER, numbers), (CLASS, classes)])
def test_no_subject_is_on_both_sides_outside_or_inside(target, make, monkeypatch):
    table, folds, rng = cohort(20, scans_each=3)
    seen, inner = [], []
    monkeypatch.setattr(
        probes, "fit_probe", lambda train, *how: seen.append(set(train.subject)) or fit_probe(train, *how)
    )
    real = linear.inner_folds

    def spy(subjects, names, count):
        inner.append((list(subjects), real(subjects, names, count)))
        return inner[-1][1]

    monkeypatch.setattr(linear, "inner_folds", spy)
    result = probe(table, make(table, rng, 1.0), folds, target)
    assert len(seen) == len(inner) == 5
    for (_, test), train, (subjects, assigned) in zip(parts(result), seen, inner, strict=True):
        assert not set(test.subject) & train
        assert set(test.subject) | train == set(table.subject)
        assert set(subjects) == train
        pairs = set(zip(subjects, assigned, strict=True))
        assert len(pairs) == len(train)
        assert len(set(assigned)) == 5


def test_honest_random_features_predict_no_number():
    values = []
    for seed in range(6):
        table, folds, rng = cohort(40, 60 if seed % 2 else 3, seed)
        values.append(
            probe(table, pd.Series(rng.normal(size=40), table.scan), folds, NUMBER).metrics["r2"]["value"]
        )
    assert np.mean(values) < 0.03
    assert max(values) < 0.25


def test_honest_random_features_predict_no_class():
    gains, auroc = [], []
    for seed in range(6):
        table, folds, rng = cohort(40, 10, seed)
        labels = pd.Series(rng.choice(["0", "1"], 40, p=[0.7, 0.3]), table.scan)
        result = probe(table, labels, folds, CLASS)
        gains.append(result.metrics["accuracy"]["value"] - result.majority)
        auroc.append(result.metrics["auroc"]["fold_mean"])
    assert -0.12 < np.mean(gains) < 0.03
    assert 0.38 < np.mean(auroc) < 0.62


def test_a_planted_signal_is_found():
    table, folds, rng = cohort(60, 8)
    number = probe(table, numbers(table, rng, 0.3), folds, NUMBER)
    assert number.metrics["r2"]["value"] > 0.9
    assert number.metrics["r2"]["low"] > 0.8
    named = probe(table, classes(table, rng, 0.1, ["mild", "severe"]), folds, CLASS)
    assert named.metrics["accuracy"]["value"] > 0.8
    assert named.metrics["auroc"]["fold_mean"] > 0.9
    assert "kappa" not in named.metrics


def test_strong_noise_chooses_a_strong_penalty_and_signal_a_weak_one():
    table, _, rng = cohort(60, 30)
    noise = table.assign(truth=rng.normal(size=60))
    signal = table.assign(truth=table.f000 + table.f001)
    assert fit_probe(noise, "regress")[1]["alpha"] >= 100
    assert fit_probe(signal, "regress")[1]["alpha"] <= 1


def test_the_interval_covers_a_known_accuracy_and_resamples_subjects(monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 1000)
    # 200 subjects with 3 equal scans each: the interval is that of 200 draws, not of 600.
    right = np.repeat(np.arange(200) % 4 > 0, 3)
    table = pd.DataFrame({"truth": "a", "subject": np.repeat(np.arange(200), 3)})
    table["prediction"] = np.where(right, "a", "b")
    table["score_a"], table["score_b"] = right.astype(float), 1.0 - right
    table["repeat"] = table["fold"] = 0
    got = metrics.metrics_of(table, ["a", "b"], [{"repeat": 0, "fold": 0}], 0, CLASS)["accuracy"]
    half = 1.96 * np.sqrt(0.75 * 0.25 / 200)
    assert got["value"] == 0.75
    assert got["low"] == pytest.approx(0.75 - half, abs=0.015)
    assert got["high"] == pytest.approx(0.75 + half, abs=0.015)


def test_equal_seeds_give_equal_results():
    table, folds, rng = cohort(20, folds=2)
    labels = numbers(table, rng, 1.0)
    first, again, other = (probe(table, labels, folds, NUMBER, seed) for seed in (3, 3, 4))
    assert first.metrics == again.metrics
    assert first.metrics["r2"]["low"] != other.metrics["r2"]["low"]
    assert first.metrics["r2"]["value"] == other.metrics["r2"]["value"]


def test_a_class_in_one_fold_only_is_always_wrong_and_noted():
    table, _, rng = cohort(20)
    folds = {s: i % 2 for i, s in enumerate(table.subject)}
    labels = classes(table, rng, 0.1, "01")
    labels["s004"] = "4"
    result = probe(table, labels, folds, CLASS)
    wrong = result.predictions.set_index("scan").loc["s004"]
    assert wrong.prediction != "4"
    assert wrong.score_4 == 0
    assert "fold 0: not in training, so always wrong: class 4" in result.note


def test_one_class_in_training_predicts_it_and_is_noted():
    table, _, _ = cohort(6)
    folds = dict(zip(table.subject, [0, 0, 0, 1, 1, 1], strict=True))
    labels = pd.Series(["0", "0", "1", "1", "1", "1"], table.scan)
    result = probe(table, labels, folds, CLASS)
    assert list(result.predictions.prediction[:3]) == ["1", "1", "1"]
    assert "fold 0: one class in training, so 1 is predicted" in result.note
    assert "fold 1: too few subjects per class to choose C, so it is 1" in result.note
    assert result.metrics["accuracy"]["fold_mean"] is not None


def test_one_training_subject_predicts_its_mean_and_is_noted():
    table, _, _ = cohort(2, scans_each=2)
    result = probe(table, pd.Series([1.0, 3, 5, 9], table.scan), {"p000": 0, "p001": 1}, NUMBER)
    assert list(result.predictions.prediction) == [7, 7, 2, 2]
    assert result.note.count("one training subject") == 2
    assert result.metrics["spearman"]["fold_mean"] is None
    assert "spearman undefined in fold 0, 1" in result.note


def test_empty_folds_lost_scans_and_single_test_scans_are_noted():
    table, _, rng = cohort(5)
    folds = {**{s: i for i, s in enumerate(table.subject)}, "away": 5}
    labels = pd.concat([numbers(table, rng, 1.0), pd.Series({"excluded": 1.0})])
    result = probe(table, labels, folds, NUMBER)
    assert "1 labelled scan(s) have no features" in result.note
    assert "fold 5: no scan to test on" in result.note
    assert "r2 undefined in fold 0, 1, 2, 3, 4" in result.note
    assert result.metrics["r2"]["fold_mean"] is None
    assert np.isfinite(result.metrics["r2"]["value"])


@pytest.mark.parametrize(
    ("values", "folds", "words"),
    [
        (["0"] * 4, [0, 1, 0, 1], "one class in all data"),
        (["0", "1", "0", "1"], [0, 0, 0, 0], "fewer than 2 folds"),
        ([], [0, 1, 0, 1], "fewer than 2 folds"),
    ],
)
def test_nothing_to_measure_says_so(values, folds, words, tmp_path):
    table, _, _ = cohort(4)
    labels = pd.Series(values, table.scan[: len(values)], dtype=object)
    result = probe(table, labels, dict(zip(table.subject, folds, strict=True)), CLASS)
    assert result.metrics is None
    assert words in result.note
    assert result.n == len(values)
    write_probe(tmp_path / "gold.json", result)
    assert read_probe(tmp_path / "gold.json")["metrics"] is None
    assert pd.read_csv(tmp_path / "gold.csv").empty


def test_constant_numbers_are_undefined_and_do_not_crash():
    table, folds, _ = cohort(10)
    result = probe(table, pd.Series(0.1, table.scan), folds, NUMBER)
    assert result.metrics["r2"]["value"] is None
    assert result.metrics["mae"]["value"] == pytest.approx(0)
    assert "r2 undefined over all folds" in result.note


def test_a_model_that_has_not_converged_is_noted(monkeypatch):
    monkeypatch.setattr(linear, "MAX_ITER", 1)
    table, folds, rng = cohort(30)
    assert "has not converged in 1 steps" in probe(table, classes(table, rng, 0.1), folds, CLASS).note


def test_what_is_written_is_what_is_read(tmp_path):
    table, folds, rng = cohort(12)
    result = probe(table, classes(table, rng, 0.5), folds, CLASS)
    path = tmp_path / "probes" / "gold.json"
    write_probe(path, result)
    assert read_probe(path) == {k: v for k, v in vars(result).items() if k != "predictions"}
    assert json.loads(path.read_text())["classes"] == {"0": 4, "1": 4, "2": 4}
    kept = pd.read_csv(path.with_suffix(".csv"), dtype={"truth": str, "prediction": str})
    pd.testing.assert_frame_equal(kept, result.predictions, check_dtype=False)
    path.write_text("{")
    with pytest.raises(CohortError, match="holds no probe"):
        read_probe(path)
