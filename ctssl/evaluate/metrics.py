"""What predictions are worth: metrics of numbers, of classes and of risks, over folds and with intervals."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from ctssl.config.evaluation import Target
from ctssl.evaluate.labels import is_ordered
from ctssl.outcomes import integer_classes

RESAMPLES = 1000
LEAST_SPREAD = 0.01
"""Of predictions, as a share of the truth's (standard deviations): a slope of less is noise."""

BINS = 10
"""Of the predicted class's probability, equally wide, for the expected calibration error."""

_MOST = np.iinfo(np.int64).max
_LEAST = float(np.finfo(float).eps)  # probability in a log loss, as of scikit-learn

Measure = Callable[[np.ndarray], dict[str, float]]  # from row numbers of predictions to their metrics


def metrics_of(
    predictions: pd.DataFrame,
    classes: list[str],
    records: list[dict[str, Any]],
    seed: int,
    target: Target,
    own: bool = False,
) -> dict[str, dict[str, float | None]]:
    """Name -> value, low, high, fold_mean, fold_sd, as in a ProbeResult; records get those of their folds.

    Where all subjects were split several times, value is the mean over those of what each one's folds say
    together, and the bootstrap draws subjects with all that was said of them.

    Args:
        predictions: columns subject, repeat, fold, truth, prediction, then null or score_CLASS.
        classes: their names; none where no classes are predicted.
        records: one per fold that was tested, with its number and repeat.
        seed: of the bootstrap.
        target: its task, and whether its classes have an order.
        own: R2 of all folds is, like that of one, against the mean of each fold's truth; else against null.
    """
    repeat = predictions.repeat.to_numpy()
    against_own = predictions
    if target.task == "regress":
        against_own = predictions.assign(null=_fold_means(predictions, "truth"))
    single = _measure(against_own, classes, target)
    pooled = _over_repeats(single if own else _measure(predictions, classes, target), repeat)
    tested = ((predictions.repeat == r["repeat"]) & (predictions.fold == r["fold"]) for r in records)
    of_fold = [single(np.flatnonzero(rows)) for rows in tested]
    for record, values in zip(records, of_fold, strict=True):
        record |= {name: _finite(value) for name, value in values.items()}
    people, rows = subject_rows(predictions.subject)
    draws = drawn_subjects(len(people), seed)
    if target.task == "survive":
        drawn = _drawn_concordances(predictions, draws)
    else:
        drawn = [pooled(np.concatenate([rows[s] for s in draw])) for draw in draws]
    metrics = {}
    for name, value in pooled(np.arange(len(predictions))).items():
        folds, many = ([v[name] for v in all_ if np.isfinite(v[name])] for all_ in (of_fold, drawn))
        low, high = np.percentile(many, [2.5, 97.5]) if many else (np.nan, np.nan)
        metrics[name] = {
            "value": _finite(value),
            "low": _finite(low),
            "high": _finite(high),
            "fold_mean": _finite(np.mean(folds)) if folds else None,
            "fold_sd": _finite(np.std(folds, ddof=1)) if len(folds) > 1 else None,
        }
    return metrics


def pooled_metrics(predictions: pd.DataFrame, classes: list[str], target: Target) -> dict[str, float]:
    """Name -> value over all these predictions of one repeat (other columns as in `metrics_of`), or nan."""
    return _measure(predictions, classes, target)(np.arange(len(predictions)))


def regression_metrics(
    truth: np.ndarray, prediction: np.ndarray, null: np.ndarray, apart: np.ndarray | None = None
) -> dict[str, float]:
    """r2 against the null model's predictions, mae, spearman, calibration_slope; nan where undefined.

    The slope is that of truth on prediction (least squares): below 1, predictions are too far apart. Where
    predictions spread less than LEAST_SPREAD of the truth it is undefined.

    Args:
        truth, prediction, null: (n,).
        apart: (2, n) truth and prediction less their means in each row's fold, for the slope; None: of one
            fold.
    """
    error, ranks = prediction - truth, rankdata(np.stack([truth, prediction]), axis=1)
    spread = ranks - ranks.mean(1, keepdims=True)
    true, said = np.stack([truth, prediction]) if apart is None else apart
    said = said - said.mean()
    alike = said.std() <= max(LEAST_SPREAD * true.std(), 1e-9 * np.abs(prediction).max())
    return {
        "r2": 1 - _ratio((error**2).sum(), ((truth - null) ** 2).sum() if np.ptp(truth) else 0),
        "mae": float(np.abs(error).mean()),
        "spearman": _ratio((spread[0] * spread[1]).sum(), np.sqrt((spread**2).sum(1).prod())),
        "calibration_slope": _ratio((said * true).sum(), 0 if alike else (said**2).sum()),
    }


def classification_metrics(
    truth: np.ndarray, prediction: np.ndarray, scores: np.ndarray, values: np.ndarray | None
) -> dict[str, float]:
    """accuracy, balanced_accuracy, auroc, brier, ece, log_loss; of ordered classes kappa, one_off.

    What is undefined is nan. Balanced accuracy and AUROC (one against the rest) are means over the classes
    that occur in `truth`. Brier is the sum over classes of squared errors, half of that for two classes, as
    of scikit-learn. ece is the mean distance of share right and mean probability of the predicted class,
    over BINS. kappa has quadratic weights, of the values; one_off, of three classes or more, is the share
    that is at most one class away, whatever their values.

    Args:
        truth, prediction: (n,) class numbers.
        scores: (n, classes), probabilities.
        values: (classes,) by which classes lie apart, rising, or None where they have no order.
    """
    n, k = scores.shape
    confusion = np.bincount(truth * k + prediction, minlength=k * k).reshape(k, k)
    held = confusion.sum(1)
    there, apart = held > 0, (held > 0) & (held < n)
    own = truth[:, None] == np.arange(k)
    above = (rankdata(scores, axis=0) * own).sum(0) - held * (held + 1) / 2
    result = {
        "accuracy": float(np.trace(confusion) / n),
        "balanced_accuracy": float((np.diag(confusion)[there] / held[there]).mean()),
        "auroc": _ratio((above[apart] / (held * (n - held))[apart]).sum(), apart.sum()),
    }
    if values is not None:
        away = np.abs(values[:, None] - values)
        by_chance = np.outer(held, confusion.sum(0)) / n
        result["kappa"] = 1 - _ratio((away**2 * confusion).sum(), (away**2 * by_chance).sum())
        if k > 2:
            result["one_off"] = float((np.abs(truth - prediction) <= 1).sum() / n)
    sure = scores[np.arange(n), prediction]
    bins = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], sure)
    right = np.bincount(bins, prediction == truth, minlength=BINS)
    result["brier"] = float(((scores - own) ** 2).sum() / n / (2 if k == 2 else 1))
    result["ece"] = float(np.abs(right - np.bincount(bins, sure, minlength=BINS)).sum() / n)
    result["log_loss"] = float(-np.log(np.clip(scores[own], _LEAST, 1)).mean())
    return result


def class_values(classes: Sequence[str], target: Target) -> np.ndarray | None:
    """(classes,) float64 by which the classes, in their order, lie apart: values of integers, else places.

    None where the target's classes have no order. Integers beyond 64 bits are names, and have one only if the
    target says so.
    """
    if not is_ordered(classes, target):
        return None
    if integer_classes(classes):
        if max(abs(int(name)) for name in classes) <= _MOST:
            return np.array(classes, float)
        if target.ordered is None:
            return None
    return np.arange(len(classes), dtype=float)


def subject_rows(subjects: pd.Series) -> tuple[list[str], list[np.ndarray]]:
    """The subjects, sorted, and the row numbers of each."""
    indices = subjects.groupby(subjects).indices
    return [str(name) for name in indices], [np.asarray(rows) for rows in indices.values()]


def drawn_subjects(subjects: int, seed: int) -> np.ndarray:
    """(RESAMPLES, subjects) numbers of subjects, as many as there are, drawn with replacement."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(subjects, size=subjects) for _ in range(RESAMPLES)])


def drawn_counts(draws: np.ndarray) -> np.ndarray:
    """(draws, subjects) how often each subject was drawn, of numbers (draws, subjects)."""
    return np.stack([np.bincount(draw, minlength=draws.shape[1]) for draw in draws]).astype(float)


def _measure(predictions: pd.DataFrame, classes: list[str], target: Target) -> Measure:
    if target.task == "survive":
        from ctssl.evaluate.survival import concordance

        pair = predictions[["truth", "prediction"]].to_numpy(float).T
        return lambda rows: {"concordance": concordance(*pair[:, rows])}
    if target.task == "regress":
        columns = predictions[["truth", "prediction", "null"]].to_numpy(float).T
        # Where a fold's truth is high, the training mean is low: over folds a slope would see that alone.
        means = np.stack([_fold_means(predictions, name) for name in ("truth", "prediction")])
        apart = columns[:2] - means

        def of_numbers(rows: np.ndarray) -> dict[str, float]:
            truth, prediction, null = columns[:, rows]
            return regression_metrics(truth, prediction, null, apart[:, rows])

        return of_numbers
    code = {name: i for i, name in enumerate(classes)}
    truth, prediction = (predictions[c].map(code).to_numpy(int) for c in ("truth", "prediction"))
    scores = predictions[[f"score_{c}" for c in classes]].to_numpy(float)
    values = class_values(classes, target)
    return lambda rows: classification_metrics(truth[rows], prediction[rows], scores[rows], values)


def _fold_means(predictions: pd.DataFrame, name: str) -> np.ndarray:
    """(n,) the mean of a column over each row's fold; of equal values exactly those."""
    folds = predictions.groupby([key for key in ("repeat", "fold") if key in predictions])[name]
    alike = folds.transform("min") == folds.transform("max")
    return folds.transform("mean").mask(alike, predictions[name]).to_numpy(float)


def _over_repeats(measure: Measure, repeat: np.ndarray) -> Measure:
    """The mean over repeats of a measure; nan where that of one is. A repeat without rows does not count."""
    if len(np.unique(repeat)) == 1:
        return measure

    def mean(rows: np.ndarray) -> dict[str, float]:
        found = [measure(rows[repeat[rows] == r]) for r in np.unique(repeat[rows])]
        return {name: float(np.mean([one[name] for one in found])) for name in found[0]}

    return mean


def _drawn_concordances(predictions: pd.DataFrame, draws: np.ndarray) -> list[dict[str, float]]:
    """Of each draw of subjects (draws, subjects) the concordance, mean over repeats."""
    from ctssl.evaluate.survival import drawn_concordances

    counts, (people, _) = drawn_counts(draws), subject_rows(predictions.subject)
    found = []
    for _, rows in predictions.groupby("repeat"):
        own = counts[:, np.searchsorted(people, rows.subject.to_numpy())]
        found.append(drawn_concordances(rows.truth.to_numpy(float), rows.prediction.to_numpy(float), own))
    return [{"concordance": float(value)} for value in np.mean(found, axis=0)]


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below > 0 else np.nan


def _finite(value: Any) -> float | None:
    """The value, or None: JSON knows no nan."""
    return float(value) if np.isfinite(value) else None
