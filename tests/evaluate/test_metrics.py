"""Metrics, held to scikit-learn and scipy."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress
from sklearn import metrics as library
from sklearn.calibration import calibration_curve

from ctssl.config.evaluation import Target
from ctssl.evaluate import metrics
from ctssl.evaluate.metrics import class_values, classification_metrics, metrics_of, regression_metrics

NUMBER = Target(name="fev1", column="fev1", task="regress")
GOLD = Target(name="gold", column="gold", task="classify")


def said(k, n=300, seed=0):
    """Truth, prediction and probabilities of k classes, some of them right."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(k, size=n)
    scores = rng.dirichlet(np.ones(k), size=n) + 0.6 * np.eye(k)[truth]
    scores /= scores.sum(1, keepdims=True)
    return truth, scores.argmax(1), scores


@pytest.mark.parametrize("k", [2, 4])
def test_classes_are_scored_as_by_scikit_learn(k):
    truth, guess, scores = said(k)
    got = classification_metrics(truth, guess, scores, np.arange(k))
    labels = list(range(k))
    one = scores[:, 1] if k == 2 else scores
    auroc = library.roc_auc_score(truth, one, multi_class="ovr", average="macro")
    assert got["accuracy"] == pytest.approx(library.accuracy_score(truth, guess))
    assert got["balanced_accuracy"] == pytest.approx(library.balanced_accuracy_score(truth, guess))
    assert got["auroc"] == pytest.approx(auroc)
    assert got["kappa"] == pytest.approx(library.cohen_kappa_score(truth, guess, weights="quadratic"))
    assert got["brier"] == pytest.approx(library.brier_score_loss(truth, one, labels=labels))
    assert got["log_loss"] == pytest.approx(library.log_loss(truth, scores, labels=labels))
    assert ("one_off" in got) == (k > 2)


def test_the_calibration_error_is_that_of_the_bins_of_scikit_learn():
    truth, guess, scores = said(3)
    sure = scores.max(1)
    right, mean = calibration_curve(truth == guess, sure, n_bins=10)
    edges = np.linspace(0, 1, 11)
    sizes = [((sure > a) & (sure <= b)).sum() for a, b in pairwise(edges)]
    there = np.array([size for size in sizes if size])
    expected = (there * np.abs(right - mean)).sum() / there.sum()
    assert classification_metrics(truth, guess, scores, None)["ece"] == pytest.approx(expected)


def test_one_off_goes_by_the_places_of_classes_and_kappa_by_their_values():
    truth, guess, scores = np.array([0, 0, 0, 2]), np.array([0, 1, 2, 1]), np.eye(3)[[0, 1, 2, 1]]
    near = classification_metrics(truth, guess, scores, np.array([0, 1, 2]))
    far = classification_metrics(truth, guess, scores, np.array([0, 10, 40]))
    assert near["one_off"] == far["one_off"] == 0.75
    assert near["kappa"] != pytest.approx(far["kappa"])
    assert not {"one_off", "kappa"} & classification_metrics(truth, guess, scores, None).keys()


@pytest.mark.parametrize(
    ("names", "ordered", "values"),
    [
        (["0", "10", "20"], None, [0, 10, 20]),
        (["-1", "4000000000"], None, [-1, 4e9]),
        (["2", "12345678901234567890123"], None, None),  # a name that looks like a number
        (["2", "12345678901234567890123"], True, [0, 1]),
        (["2", "9" * 400], None, None),
        (["a", "b"], True, [0, 1]),
        (["1", "2"], False, None),
    ],
)
def test_classes_lie_apart_by_values_or_places(names, ordered, values):
    got = class_values(names, GOLD.model_copy(update={"ordered": ordered}))
    assert (None if got is None else got.tolist()) == values


def test_squares_of_large_distances_do_not_overflow():
    truth, guess, scores = np.array([0, 1, 2, 2]), np.array([0, 2, 2, 2]), np.eye(3)[[0, 2, 2, 2]]
    values = class_values(["-1", "0", "5000000000"], GOLD)
    assert classification_metrics(truth, guess, scores, values)["kappa"] == pytest.approx(0.5)


def test_the_slope_is_that_of_truth_on_prediction():
    rng = np.random.default_rng(1)
    guess = rng.normal(size=50)
    truth = 0.4 * guess + rng.normal(size=50)
    got = regression_metrics(truth, guess, np.zeros(50))["calibration_slope"]
    assert got == pytest.approx(linregress(guess, truth).slope)


@pytest.mark.parametrize("guess", [np.full(9, 0.1), 0.1 + 1e-15 * np.arange(9)])
def test_predictions_that_are_all_alike_have_no_slope(guess):
    assert np.isnan(regression_metrics(np.arange(9.0), guess, np.zeros(9))["calibration_slope"])


def folded(guess, truth, size=6):
    """Predictions of folds of so many, each with the mean of the others as null."""
    fold = np.arange(len(truth)) // size
    null = np.array([truth[fold != f].mean() for f in fold])
    subject = [f"p{i:03}" for i in range(len(truth))]
    table = pd.DataFrame({"subject": subject, "repeat": 0, "fold": fold, "truth": truth, "null": null})
    return table.assign(prediction=null + guess)


def test_predictions_that_are_only_means_of_training_have_no_slope(monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 20)
    truth = np.random.default_rng(0).normal(size=30)
    records = [{"repeat": 0, "fold": f} for f in range(5)]
    pooled = metrics_of(folded(0, truth), [], records, 0, NUMBER)["calibration_slope"]
    assert pooled["value"] is None, "else 1 - folds: where one is high, the mean of the others is low"
    hardly = folded(1e-3 * np.random.default_rng(1).normal(size=30), truth)
    assert metrics_of(hardly, [], records, 0, NUMBER)["calibration_slope"]["value"] is None


def test_the_slope_of_all_folds_is_that_within_them(monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 20)
    rng = np.random.default_rng(2)
    guess = rng.normal(size=600)
    table = folded(guess, 0.5 * guess + 0.1 * rng.normal(size=600), 5)
    records = [{"repeat": 0, "fold": f} for f in range(120)]
    got = metrics_of(table, [], records, 0, NUMBER)["calibration_slope"]
    apart = table[["truth", "prediction"]] - table.groupby("fold")[["truth", "prediction"]].transform("mean")
    assert got["value"] == pytest.approx(linregress(apart.prediction, apart.truth).slope)
    assert got["value"] == pytest.approx(0.5, abs=0.02)
    assert got["low"] <= got["value"] <= got["high"]


@pytest.mark.parametrize(
    ("names", "ordered", "there"),
    [
        (["0", "1", "2"], None, True),
        (["0", "1", "2"], False, False),
        (["a", "b", "c"], None, False),
        (["a", "b", "c"], True, True),
    ],
)
def test_order_is_what_the_target_says_or_that_of_integers(names, ordered, there, monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 5)
    truth, guess, scores = said(3, 30)
    table = pd.DataFrame(scores, columns=[f"score_{name}" for name in names])
    table["truth"], table["prediction"] = np.array(names)[truth], np.array(names)[guess]
    table = table.assign(subject=[f"p{i}" for i in range(30)], repeat=0, fold=0)
    target = GOLD.model_copy(update={"ordered": ordered})
    got = metrics_of(table, names, [{"repeat": 0, "fold": 0}], 0, target)
    assert ({"kappa", "one_off"} <= got.keys()) == there


def test_repeats_count_equally_and_a_subject_comes_with_all_of_them(monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 400)
    rng = np.random.default_rng(2)
    n = 60
    truth = rng.normal(size=n)
    parts = [
        pd.DataFrame({"truth": truth, "prediction": truth + sd * rng.normal(size=n), "null": 0.0})
        for sd in (0.2, 1.0)
    ]
    people = [f"p{i:02}" for i in range(n)]
    table = pd.concat([p.assign(subject=people, repeat=r, fold=0) for r, p in enumerate(parts)])
    records = [{"repeat": r, "fold": 0} for r in (0, 1)]
    got = metrics_of(table.reset_index(drop=True), [], records, 0, NUMBER)["r2"]
    single = [1 - ((p.truth - p.prediction) ** 2).sum() / (p.truth**2).sum() for p in parts]
    assert got["value"] == pytest.approx(np.mean(single))
    draws = [rng.integers(n, size=n) for _ in range(400)]
    each = [
        np.mean(
            [1 - ((p.truth - p.prediction) ** 2).iloc[d].sum() / (p.truth**2).iloc[d].sum() for p in parts]
        )
        for d in draws
    ]
    assert got["low"] == pytest.approx(np.percentile(each, 2.5), abs=0.06)
    assert got["high"] == pytest.approx(np.percentile(each, 97.5), abs=0.06)
