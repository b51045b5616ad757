"""What Cox regression is fitted on while its penalty is chosen: training rows of inner folds, by subject."""

import numpy as np
import pandas as pd
import pytest
from evaluate.test_survival import followed
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from ctssl.evaluate import survival

pytest.importorskip("sksurv")


class Watching(TransformerMixin, BaseEstimator):
    """A step that takes the first column, the row's number, away and keeps whom it was fitted on."""

    seen: list = []  # noqa: RUF012 - of all clones

    def fit(self, x, y=None):
        self.seen.append(x[:, 0].astype(int).tolist())
        return self

    def transform(self, x):
        return x[:, 1:]

    def notes(self, x, inner):
        return [f"inner folds of {inner.tolist()}"]


def watched(x, truth, people, monkeypatch):
    """Rows of each fit of a step, their mean of a scaler, how many of PCA; the inner fold of each row."""
    monkeypatch.setattr(Watching, "seen", [])
    scaled, turned, real, turn = [], [], StandardScaler.fit, PCA.fit

    def fit(self, rows, y=None, sample_weight=None):
        scaled.append(rows.mean(0))
        return real(self, rows, y, sample_weight)

    def fit_turn(self, rows, y=None):
        turned.append(len(rows))
        return turn(self, rows, y)

    monkeypatch.setattr(StandardScaler, "fit", fit)
    monkeypatch.setattr(PCA, "fit", fit_turn)
    _, _, [said] = survival.fit_cox(np.column_stack([np.arange(len(x)), x]), truth, people, Watching())
    return (
        Watching.seen,
        scaled,
        turned,
        np.array([int(n) for n in said[len("inner folds of [") : -1].split(", ")]),
    )


@pytest.mark.parametrize(("each", "width"), [(1, 6), (2, 6), (4, 6), (2, 100)])
def test_what_is_tried_out_on_an_inner_fold_has_seen_none_of_its_subjects(each, width, monkeypatch):
    x, truth = followed(80, width)
    people = pd.Series([f"p{n // each}" for n in np.random.default_rng(0).permutation(80)])
    seen, scaled, turned, inner = watched(x, truth, people, monkeypatch)
    assert pd.Series(inner).groupby(people).nunique().max() == 1, "a subject is in one inner fold"
    expected = [np.flatnonzero(inner != fold).tolist() for fold in range(5)]
    assert seen == [*expected, list(range(80))]
    np.testing.assert_allclose(scaled, [x[rows].mean(0) for rows in seen])
    assert turned == ([len(rows) for rows in seen] if width > 80 else [])


def test_twins_of_a_subject_do_not_make_a_penalty_weak():
    """Noise and times that two scans share: a fold by scan would know each from its twin."""
    rng = np.random.default_rng(1)
    x, truth = rng.normal(size=(30, 40)), followed(30, 1, effect=0)[1]
    twice, times = np.repeat(x, 2, axis=0), np.repeat(truth, 2)
    by_subject = survival.fit_cox(twice, times, pd.Series(np.repeat(np.arange(30), 2)))[1]["alpha"]
    by_scan = survival.fit_cox(twice, times, pd.Series(np.arange(60)))[1]["alpha"]
    assert by_subject >= 1e3 > by_scan
