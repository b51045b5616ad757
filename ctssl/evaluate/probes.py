"""Linear probes on frozen features: everything that is fitted is fitted inside the training folds."""

import json
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctssl.cards import read_card
from ctssl.config.study import Target
from ctssl.errors import CohortError
from ctssl.escaping import in_csv
from ctssl.evaluate.labels import feature_matrix, join_labels, sort_classes
from ctssl.evaluate.metrics import metrics_of
from ctssl.evaluate.splits import inner_folds

ALPHAS = np.logspace(4, -2, 7)
"""Ridge penalties to choose from, strong to weak: of equal scores the first, the stronger, wins."""

STRENGTHS = np.logspace(-4, 1, 6)
"""Logistic regression's C (inverse penalty) to choose from, strong penalty to weak."""

INNER_FOLDS, MAX_ITER = 5, 5000
FLOOR = 1e-6  # least probability when penalties are compared: one wrong scan must not decide alone
OfFold = tuple[pd.DataFrame, dict[str, Any], list[str]]
"""Predictions of a fold's test rows, what to record of the fold, notes."""


@dataclass(frozen=True)
class ProbeResult:
    """What one probe says of one set of features and one target.

    Attributes:
        target: the target's name.
        task: regress or classify.
        n: scans with features and a label.
        subjects: the number of their subjects.
        classes, majority: class -> scans, and the share of the largest; None when numbers are predicted.
        metrics: name -> value (pooled over all out-of-fold predictions), low, high (95 % interval,
            bootstrap over subjects, fitted models as they are), fold_mean, fold_sd (over the folds that
            allow the metric, n - 1 below); None where nothing could be computed. Shares lie in 0 to 1.
            Where features say little, pooled auroc lies below 0.5 and pooled spearman below 0, as each
            fold's model starts from the mean of the other folds; fold_mean is (nearly) free of that.
        folds: per fold its number, train and test scans, the penalty that was chosen, and the metrics.
        note: what was done otherwise than usual, or could not be done; "" when nothing.
        predictions: scan, subject, fold, truth, prediction, then null (the training folds' mean) or one
            score_CLASS per class (its probability).
    """

    target: str
    task: str
    n: int
    subjects: int
    classes: dict[str, int] | None
    majority: float | None
    metrics: dict[str, dict[str, float | None]] | None
    folds: list[dict[str, Any]]
    note: str
    predictions: pd.DataFrame = field(repr=False)


def probe(
    features: pd.DataFrame,
    labels: pd.Series,
    folds: Mapping[str, int],
    target: Target,
    seed: int = 0,
    step: Any = None,
) -> ProbeResult:
    """How well features predict a target, cross-validated over the given folds.

    Rules where a fold does not allow the usual: with one training subject, or one class in training, the
    training mean or that class is predicted; a fold without a test scan is passed over; each is noted.

    Args:
        features: columns scan, subject, f000 ..., one row per scan.
        labels: scan -> label, as `read_labels` gives it.
        folds: subject -> fold; a subject is in one fold with all scans, so never on both sides.
        target: names the task.
        seed: of the bootstrap.
        step: makes the features of what stands in the table (as `ctssl.evaluate.handmade.steps`); fitted with
            the rest, on training scans.

    Raises:
        CohortError: a scan comes twice, has a feature that is no number, or a subject without a fold.

    Source: Sun, Yu, Batmanghelich, AAAI 2021, Experiments (5 folds, linear or logistic regression).
    """
    rows, lost = join_labels(features, labels, folds)

    def fitted(fold: int, train: pd.DataFrame, test: pd.DataFrame, classes: list[str]) -> OfFold:
        model, penalty, said = fit_probe(train, target.task, step)
        return _predict(model, train, test, classes), penalty, said

    notes = [f"{lost} labelled scan(s) have no features"] if lost else []
    return over_folds(rows, folds, target, fitted, notes, seed)


def why_not(rows: pd.DataFrame, target: Target) -> str:
    """Why nothing can be measured on such rows (fold, truth); "" when it can."""
    if target.task == "classify" and rows.truth.nunique() == 1:
        return "one class in all data"
    return "fewer than 2 folds with labelled scans" if rows.fold.nunique() < 2 else ""


def over_folds(
    rows: pd.DataFrame,
    folds: Mapping[str, int],
    target: Target,
    of_fold: Callable[[int, pd.DataFrame, pd.DataFrame, list[str]], OfFold],
    notes: Sequence[str] = (),
    seed: int = 0,
) -> ProbeResult:
    """What the predictions of every fold by what was fitted on the others say together.

    Args:
        rows: scan, subject, fold, truth, and whatever `of_fold` uses, of labelled scans.
        folds: subject -> fold, of labelled and other subjects.
        target: names the task.
        of_fold: (fold, training rows, test rows, classes of all rows) -> predictions of the test rows as a
            ProbeResult has them, what to record, notes.
        notes: what is to be said already.
        seed: of the bootstrap.
    """
    told = list(notes)
    classes = sort_classes(rows.truth) if target.task == "classify" else []
    if fault := why_not(rows, target):
        return _result(rows, classes, target, [], [*told, f"{fault}, so nothing is measured"])
    parts, records = [], []
    for fold in sorted(set(folds.values())):
        test, train = rows[rows.fold == fold], rows[rows.fold != fold]
        if test.empty:
            told.append(f"fold {fold}: no scan to test on")
            continue
        predictions, record, said = of_fold(fold, train, test, classes)
        parts.append(predictions)
        records.append({"fold": fold, "train": len(train), "test": len(test), **record})
        if classes and (unseen := sort_classes(set(test.truth) - set(train.truth))):
            said = [*said, f"not in training, so always wrong: class {', '.join(unseen)}"]
        told += [f"fold {fold}: {words}" for words in said]
    predictions = pd.concat(parts, ignore_index=True)
    metrics = metrics_of(predictions, classes, records, seed)
    for name, values in metrics.items():
        undefined = [str(r["fold"]) for r in records if r[name] is None]
        told += [f"{name} undefined in fold {', '.join(undefined)}"] if undefined else []
        told += [f"{name} undefined over all folds"] if values["value"] is None else []
    return replace(_result(rows, classes, target, records, told), metrics=metrics, predictions=predictions)


def fit_probe(train: pd.DataFrame, task: str, step: Any = None) -> tuple[Any, dict[str, float], list[str]]:
    """The fitted model, the penalty that was chosen, and notes; sees nothing but these rows.

    `train` has columns subject, truth, f000 ..., one row per scan; `task` is regress or classify. Scaler and
    ridge or logistic regression; the penalty is the best of a grid in a cross-validation over subjects
    within the rows (at most 5 folds; squared error or log likelihood). Where fewer than two classes have two
    subjects there is no such choice, and C is 1. A `step` (an unfitted one of
    ctssl.evaluate.handmade.steps) comes before the scaler and is fitted wherever that is, also within the
    inner folds.
    """
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.model_selection import GridSearchCV, PredefinedSplit
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    x, y = feature_matrix(train), train.truth.to_numpy()
    if task == "regress" and train.subject.nunique() < 2:
        return DummyRegressor().fit(x, y), {}, ["one training subject, so its mean is predicted"]
    if task == "classify" and len(set(y)) < 2:
        return DummyClassifier().fit(x, y), {}, [f"one class in training, so {y[0]} is predicted"]
    name, linear, grid, score = (
        ("alpha", Ridge(), ALPHAS, "neg_mean_squared_error")
        if task == "regress"
        else ("C", LogisticRegression(C=1.0, max_iter=MAX_ITER), STRENGTHS, _log_likelihood)
    )
    first = [] if step is None else [("step", step)]
    model = Pipeline([*first, ("scale", StandardScaler()), ("linear", linear)])
    inner, said = inner_folds(train.subject, train.truth if task == "classify" else None, INNER_FOLDS), []
    # One thread: on small matrices more of them wait for each other. Convergence is read off n_iter_ below.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if inner is None:
            model.fit(x, y)
            said.append("too few subjects per class to choose C, so it is 1")
        else:
            cv = PredefinedSplit(inner)
            search = GridSearchCV(
                model, {f"linear__{name}": grid}, cv=cv, scoring=score, error_score="raise"
            ).fit(x, y)
            model = search.best_estimator_
    if task == "classify" and model["linear"].n_iter_.max() >= MAX_ITER:
        said.append(f"logistic regression has not converged in {MAX_ITER} steps")
    said += [] if step is None else step.notes(x, inner)
    return model, {name: float(getattr(model["linear"], name))}, said


def write_probe(path: Path, result: ProbeResult) -> None:
    """Nothing; writes the predictions as csv beside `path` (same stem), then all the rest as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    result.predictions.map(in_csv).to_csv(path.with_suffix(".csv"), index=False)
    values = {k: v for k, v in vars(result).items() if k != "predictions"}
    path.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n")


def read_probe(path: Path) -> dict[str, Any]:
    """What `write_probe` put into the JSON file: the attributes of a ProbeResult without predictions.

    Raises:
        CohortError: the file cannot be read.
    """
    try:
        return read_card(path)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise CohortError(f"{path} holds no probe: {error}", "delete it and run the workflow") from error


def _result(
    rows: pd.DataFrame, classes: list[str], target: Target, records: list[dict[str, Any]], notes: list[str]
) -> ProbeResult:
    """The result but for metrics and predictions."""
    counts = Counter(rows.truth)
    return ProbeResult(
        target=target.name,
        task=target.task,
        n=len(rows),
        subjects=rows.subject.nunique(),
        classes={c: counts[c] for c in classes} if target.task == "classify" else None,
        majority=max(counts.values()) / len(rows) if classes else None,
        metrics=None,
        folds=records,
        note="; ".join(notes),
        predictions=rows[["scan", "subject", "fold", "truth"]].iloc[:0].assign(prediction=[]),
    )


def _predict(model: Any, train: pd.DataFrame, test: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """The test rows without features, with prediction and null, or prediction and scores."""
    rows, x = test[["scan", "subject", "fold", "truth"]], feature_matrix(test)
    if not classes:
        return rows.assign(prediction=model.predict(x), null=train.truth.mean())
    found = pd.DataFrame(model.predict_proba(x), columns=model.classes_, index=test.index)
    scores = found.reindex(columns=classes, fill_value=0.0)  # a class unseen in training
    return pd.concat([rows.assign(prediction=scores.idxmax(axis=1)), scores.add_prefix("score_")], axis=1)


def _log_likelihood(model: Any, x: np.ndarray, y: np.ndarray) -> float:
    """The mean log probability of the true classes; what GridSearchCV makes large."""
    own = (model.predict_proba(x) * (y[:, None] == model.classes_)).sum(1)
    return float(np.log(np.maximum(own, FLOOR)).mean())
