"""Linear probes on frozen features: everything that is fitted is fitted inside the training folds."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ctssl.cards import read_card
from ctssl.config.evaluation import Target
from ctssl.errors import CohortError
from ctssl.escaping import in_csv
from ctssl.evaluate.labels import feature_matrix, in_folds, join_labels, sort_classes
from ctssl.evaluate.linear import fit_probe
from ctssl.evaluate.metrics import metrics_of

OfFold = tuple[pd.DataFrame, dict[str, Any], list[str]]
"""Predictions of a fold's test rows, what to record of the fold, notes."""


@dataclass(frozen=True)
class ProbeResult:
    """What one probe says of one set of features and one target.

    Attributes:
        target: the target's name.
        task: regress, classify or survive.
        n: scans with features and a label.
        subjects: the number of their subjects.
        classes, majority: class -> scans, and the share of the largest; None when numbers are predicted.
            Of times how many had the event and how many were only followed, and no majority.
        metrics: name -> value (pooled over all out-of-fold predictions of a repeat, mean of repeats), low,
            high (95 % interval, bootstrap over subjects, fitted models as they are), fold_mean, fold_sd (over
            all folds that allow the metric, n - 1 below); None where nothing could be computed. Shares lie
            in 0 to 1. Where features say little, pooled auroc lies below 0.5 and pooled spearman below 0, as
            each fold's model starts from the mean of the other folds; fold_mean is (nearly) free of that.
        folds: per fold its number and repeat, train and test scans, the penalty that was chosen, the metrics.
        note: what was done otherwise than usual, or could not be done; "" when nothing.
        predictions: scan, subject, repeat (0, 1, ...), fold, truth, prediction, then null (the mean of the
            training folds) or one score_CLASS per class (its probability); every scan once a repeat.
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
    again: Sequence[Mapping[str, int]] = (),
    names: Mapping[int, str] | None = None,
    notes: Sequence[str] = (),
) -> ProbeResult:
    """How well features predict a target, cross-validated over the given folds.

    Rules where a fold does not allow the usual: with one training subject, or one class in training, the
    training mean or that class is predicted; a fold without a scan to test or to train on is passed over;
    each is noted.

    Args:
        features: columns scan, subject, f000 ..., one row per scan.
        labels: scan -> label, as `read_labels` gives it.
        folds: subject -> fold; a subject is in one fold with all scans, so never on both sides.
        target: names the task.
        seed: of the bootstrap.
        step: makes the features of what stands in the table (as `ctssl.evaluate.handmade.steps`); fitted with
            the rest, on training scans.
        again: folds of further splits of the same subjects, the repeats.
        names: what each fold is called, where folds are values left out: R2 of all folds is against the mean
            of each one, as a difference between values is nothing that was learnt; None: by its number.
        notes: what is to be said already.

    Raises:
        CohortError: a scan comes twice, has a feature that is no number, or a subject without a fold.

    Source: Sun, Yu, Batmanghelich, AAAI 2021, Experiments (5 folds, linear or logistic regression).
    """
    rows, lost = join_labels(features, labels, folds)

    def fitted(fold: int, train: pd.DataFrame, test: pd.DataFrame, classes: list[str]) -> OfFold:
        model, penalty, said = fit_probe(train, target.task, step)
        return predict_rows(model, train, test, target.task, classes), penalty, said

    told = [*notes, *([f"{lost} labelled scan(s) have no features"] if lost else [])]
    return over_folds(rows, folds, target, fitted, told, seed, again, names)


def probe_inside(
    tables: Mapping[int, tuple[pd.DataFrame, pd.Series]],
    folds: Mapping[str, int],
    target: Target,
    notes: Sequence[str] = (),
    seed: int = 0,
) -> ProbeResult:
    """How well features predict a target where the network of each fold has not seen its test subjects.

    Args:
        tables: fold -> features and labels as `probe` takes them, features by the network of that fold. They
            are of the same scans.
        folds: subject -> fold.
        target: names the task.
        notes: what is to be said already.
        seed: of the bootstrap.

    Raises:
        CohortError: as `probe`.
    """
    joint = {fold: join_labels(features, labels, folds) for fold, (features, labels) in tables.items()}

    def fitted(fold: int, train: pd.DataFrame, test: pd.DataFrame, classes: list[str]) -> OfFold:
        own = joint[fold][0].set_index("scan", drop=False)
        train, test = (own.loc[part.scan].reset_index(drop=True) for part in (train, test))
        model, penalty, said = fit_probe(train, target.task)
        return predict_rows(model, train, test, target.task, classes), penalty, said

    rows, lost = next(iter(joint.values()))
    told = [*notes, *([f"{lost} labelled scan(s) have no features"] if lost else [])]
    return over_folds(rows, folds, target, fitted, told, seed)


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
    again: Sequence[Mapping[str, int]] = (),
    names: Mapping[int, str] | None = None,
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
        again: folds of further splits of the same subjects.
        names: as of `probe`, in records and notes.

    Raises:
        CohortError: a subject has no fold.
    """
    told = list(notes)
    classes = sort_classes(rows.truth) if target.task == "classify" else []
    if fault := why_not(rows, target):
        return _result(rows, classes, target, [], [*told, f"{fault}, so nothing is measured"])
    parts: list[pd.DataFrame] = []
    records: list[dict[str, Any]] = []
    heard: list[tuple[str, str]] = []
    for repeat, split in enumerate((folds, *again)):
        rows = in_folds(rows, split)
        for fold in sorted(set(split.values())):
            test, train = rows[rows.fold == fold], rows[rows.fold != fold]
            name = f"fold {fold}" + (f" ({names[fold]})" if names else "")
            if test.empty:
                heard.append((name, "no scan to test on"))
                continue
            if train.empty:  # of a later split: of the first, nothing would be measured
                heard.append((name, "no scan to train on"))
                continue
            predictions, record, said = of_fold(fold, train, test, classes)
            predictions.insert(2, "repeat", repeat)
            parts.append(predictions)
            front = {"repeat": repeat, "fold": fold, **({"value": names[fold]} if names else {})}
            records.append({**front, "train": len(train), "test": len(test), **record})
            if classes and (unseen := sort_classes(set(test.truth) - set(train.truth))):
                said = [*said, f"not in training, so always wrong: class {', '.join(unseen)}"]
            heard += [(name, words) for words in said]
    told += _told(heard, 1 + len(again))
    predictions = pd.concat(parts, ignore_index=True)
    metrics = metrics_of(predictions, classes, records, seed, target, own=names is not None)
    for name, values in metrics.items():
        undefined = [str(r["fold"]) for r in records if r[name] is None]
        where = f"{len(undefined)} of {len(records)} folds" if again else f"fold {', '.join(undefined)}"
        told += [f"{name} undefined in {where}"] if undefined else []
        told += [f"{name} undefined over all folds"] if values["value"] is None else []
    return replace(_result(rows, classes, target, records, told), metrics=metrics, predictions=predictions)


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
    if target.task == "survive":
        came = int((rows.truth > 0).sum())
        counts, classes = Counter(event=came, censored=len(rows) - came), ["event", "censored"]
    front = ["scan", "subject", "repeat", "fold", "truth"]
    return ProbeResult(
        target=target.name,
        task=target.task,
        n=len(rows),
        subjects=rows.subject.nunique(),
        classes=None if target.task == "regress" else {c: counts[c] for c in classes},
        majority=max(counts.values()) / len(rows) if target.task == "classify" and classes else None,
        metrics=None,
        folds=records,
        note="; ".join(notes),
        predictions=rows.assign(repeat=0)[front].iloc[:0].assign(prediction=[]),
    )


def _told(heard: Sequence[tuple[str, str]], splits: int) -> list[str]:
    """Notes of what was heard of folds (name, words): of several splits how often, not where."""
    if splits == 1:
        return [f"{name}: {words}" for name, words in heard]
    return [f"{words} (of {n} folds)" for words, n in Counter(words for _, words in heard).items()]


def predict_rows(
    model: Any, train: pd.DataFrame, test: pd.DataFrame, task: str, classes: list[str]
) -> pd.DataFrame:
    """The test rows without features, with prediction and null, or prediction and scores; or a risk alone.

    Args:
        model: as `fit_probe` gives it.
        train, test: columns scan, subject, fold, truth, f000 ...
        task: of the target.
        classes: of all rows; none where no classes are predicted.
    """
    rows, x = test[["scan", "subject", "fold", "truth"]], feature_matrix(test)
    if task == "survive":
        return rows.assign(prediction=model.predict(x))
    if not classes:
        return rows.assign(prediction=model.predict(x), null=train.truth.mean())
    found = pd.DataFrame(model.predict_proba(x), columns=model.classes_, index=test.index)
    scores = found.reindex(columns=classes, fill_value=0.0)  # a class unseen in training
    return pd.concat([rows.assign(prediction=scores.idxmax(axis=1)), scores.add_prefix("score_")], axis=1)
