"""Intervals and sets of classes around predictions, from errors on subjects that a model had not seen.

Source: CV+ of Barber, Candès, Ramdas, Tibshirani, "Predictive inference with the jackknife+", Annals of
Statistics 2021, and for classes of Romano, Sesia, Candès, "Classification with valid and adaptive coverage",
NeurIPS 2020; the score is 1 - probability. Subjects with several scans as in Lee, Barber, Willett,
"Distribution-free inference with hierarchical data", 2023.
"""

from collections.abc import Iterable

import numpy as np

COVERAGE = 0.9
"""Share of new scans whose truth an interval or a set should hold."""

_ROUNDING = 1e-9


def subject_weights(subjects: Iterable[str]) -> np.ndarray:
    """(n,) how much each scan's error counts: 1 / (S + 1) for each of S subjects, shared by its scans.

    What is missing to 1 belongs to the subject who is to come.
    """
    people, which, scans = np.unique(np.asarray(list(subjects), str), return_inverse=True, return_counts=True)
    return 1 / ((len(people) + 1) * scans[which])


def interval(
    centres: np.ndarray, folds: np.ndarray, errors: np.ndarray, weights: np.ndarray, coverage: float
) -> tuple[np.ndarray, np.ndarray]:
    """(m,) lower and (m,) upper ends; without end where there are too few subjects to say.

    Each training scan says where the new value may lie: its own absolute error around what the model that had
    not seen it predicts. The ends leave a share of 1 - coverage of that on either side. They hold the truth
    of a new subject with a probability of at least about 2 coverage - 1, and of about coverage where models
    of the folds are alike.

    Args:
        centres: (m, K) what the model without fold k predicts for each new scan.
        folds: (n,) the fold of each training scan, 0 to K - 1.
        errors: (n,) its absolute error, from the model without its fold.
        weights: (n,) as `subject_weights` gives them.
        coverage: between 0 and 1.
    """
    low, high = np.empty(len(centres)), np.empty(len(centres))
    for row, centre in enumerate(centres):
        low[row] = -_upper(errors - centre[folds], weights, coverage)
        high[row] = _upper(errors + centre[folds], weights, coverage)
    return low, high


def class_sets(
    scores: np.ndarray, folds: np.ndarray, errors: np.ndarray, weights: np.ndarray, coverage: float
) -> np.ndarray:
    """(m, C) bool: the classes that each new scan may well have; with few subjects all of them.

    A class is left out when a share of coverage of the training scans lies below its error, each by the
    model that had not seen that scan. Coverage is as of `interval`.

    Args:
        scores: (m, K, C) probabilities from the model without fold k.
        folds, weights, coverage: as in `interval`.
        errors: (n,) one minus the probability of the true class, from the model without the scan's fold.
    """
    held = np.empty((len(scores), scores.shape[2]), bool)
    for row, score in enumerate(scores):
        below = errors[:, None] < 1 - score[folds] - _ROUNDING  # (n, C)
        held[row] = weights @ below < coverage - _ROUNDING
    return held


def _upper(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """The least value that a weight of `share` does not pass; infinite where all of them weigh less."""
    order = np.argsort(values)
    place = np.searchsorted(np.cumsum(weights[order]), share - _ROUNDING)
    return float(values[order[place]]) if place < len(values) else np.inf
