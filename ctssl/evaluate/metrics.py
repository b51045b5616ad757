"""What predictions are worth: metrics of numbers and of classes, over folds and with intervals."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from ctssl.evaluate.labels import integer_classes

RESAMPLES = 1000

Measure = Callable[[np.ndarray], dict[str, float]]  # from row numbers of predictions to their metrics


def metrics_of(
    predictions: pd.DataFrame, classes: list[str], records: list[dict[str, Any]], seed: int
) -> dict[str, dict[str, float | None]]:
    """Name -> value, low, high, fold_mean, fold_sd, as in a ProbeResult; records get those of their folds.

    Args:
        predictions: columns subject, fold, truth, prediction, then null or score_CLASS.
        classes: their names; none where numbers are predicted.
        records: one per fold that was tested, with its number.
        seed: of the bootstrap.
    """
    pooled = _measure(predictions, classes)
    own_mean = predictions.groupby("fold").truth.transform("mean") if not classes else None
    single = _measure(predictions.assign(null=own_mean), classes)  # R2 of a fold: against its own mean
    of_fold = [single(np.flatnonzero(predictions.fold == record["fold"])) for record in records]
    for record, values in zip(records, of_fold, strict=True):
        record |= {name: _finite(value) for name, value in values.items()}
    drawn = _bootstrap(pooled, predictions.subject, seed)
    metrics = {}
    for name, value in pooled(np.arange(len(predictions))).items():
        folds, draws = ([v[name] for v in many if np.isfinite(v[name])] for many in (of_fold, drawn))
        low, high = np.percentile(draws, [2.5, 97.5]) if draws else (np.nan, np.nan)
        metrics[name] = {
            "value": _finite(value),
            "low": _finite(low),
            "high": _finite(high),
            "fold_mean": _finite(np.mean(folds)) if folds else None,
            "fold_sd": _finite(np.std(folds, ddof=1)) if len(folds) > 1 else None,
        }
    return metrics


def regression_metrics(truth: np.ndarray, prediction: np.ndarray, null: np.ndarray) -> dict[str, float]:
    """r2 against the null model's predictions, mae, spearman; nan where undefined. All arguments (n,)."""
    error, ranks = prediction - truth, rankdata(np.stack([truth, prediction]), axis=1)
    spread = ranks - ranks.mean(1, keepdims=True)
    return {
        "r2": 1 - _ratio((error**2).sum(), ((truth - null) ** 2).sum() if np.ptp(truth) else 0),
        "mae": float(np.abs(error).mean()),
        "spearman": _ratio((spread[0] * spread[1]).sum(), np.sqrt((spread**2).sum(1).prod())),
    }


def classification_metrics(
    truth: np.ndarray, prediction: np.ndarray, scores: np.ndarray, values: np.ndarray | None
) -> dict[str, float]:
    """accuracy, balanced accuracy, macro AUROC, and quadratic kappa if classes have values; nan: undefined.

    Balanced accuracy and AUROC (one against the rest) are means over the classes that occur in `truth`.

    Args:
        truth, prediction: (n,) class numbers.
        scores: (n, classes).
        values: (classes,) the integers that name the classes, or None.
    """
    n, k = scores.shape
    confusion = np.bincount(truth * k + prediction, minlength=k * k).reshape(k, k)
    held = confusion.sum(1)
    there, apart = held > 0, (held > 0) & (held < n)
    above = (rankdata(scores, axis=0) * (truth[:, None] == np.arange(k))).sum(0) - held * (held + 1) / 2
    result = {
        "accuracy": float(np.trace(confusion) / n),
        "balanced_accuracy": float((np.diag(confusion)[there] / held[there]).mean()),
        "auroc": _ratio((above[apart] / (held * (n - held))[apart]).sum(), apart.sum()),
    }
    if values is not None:
        weight = (values[:, None] - values) ** 2
        by_chance = np.outer(held, confusion.sum(0)) / n
        result["kappa"] = 1 - _ratio((weight * confusion).sum(), (weight * by_chance).sum())
    return result


def _measure(predictions: pd.DataFrame, classes: list[str]) -> Measure:
    if not classes:
        columns = predictions[["truth", "prediction", "null"]].to_numpy(float).T
        return lambda rows: regression_metrics(*columns[:, rows])
    code = {name: i for i, name in enumerate(classes)}
    truth, prediction = (predictions[c].map(code).to_numpy(int) for c in ("truth", "prediction"))
    scores = predictions[[f"score_{c}" for c in classes]].to_numpy(float)
    values = np.array(classes, int) if integer_classes(classes) else None
    return lambda rows: classification_metrics(truth[rows], prediction[rows], scores[rows], values)


def _bootstrap(measure: Measure, subjects: pd.Series, seed: int) -> list[dict[str, float]]:
    """The metrics of 1000 draws of as many subjects, with replacement; a subject brings all its scans."""
    rng = np.random.default_rng(seed)
    rows = list(subjects.groupby(subjects).indices.values())
    draws = (rng.integers(len(rows), size=len(rows)) for _ in range(RESAMPLES))
    return [measure(np.concatenate([rows[s] for s in draw])) for draw in draws]


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below > 0 else np.nan


def _finite(value: Any) -> float | None:
    """The value, or None: JSON knows no nan."""
    return float(value) if np.isfinite(value) else None
