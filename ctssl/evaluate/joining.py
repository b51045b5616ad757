"""What networks trained on labels inside each fold predict, joined over the folds as a probe says it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ctssl.config.evaluation import Target
from ctssl.errors import CohortError
from ctssl.evaluate.cases import Cases, per_subject
from ctssl.evaluate.labels import join_labels, sort_classes
from ctssl.evaluate.probes import OfFold, ProbeResult, over_folds, why_not

HOW = (
    "no frozen features: a network was trained on the labels of each fold's training part, and on nothing of "
    "its test part"
)
"""What every result says, and so every table."""

LOST = "no store or no box, or show no landmark where one is needed"
"""What is said of labelled scans that cannot be used."""


def joined(
    rows: pd.DataFrame,
    lost: int,
    read: Sequence[Mapping[str, Any]],
    folds: Mapping[str, int],
    target: Target,
    made_of: Mapping[str, str],
    told: Sequence[str] = (),
    order: Mapping[str, int] | None = None,
    labels: pd.Series | None = None,
) -> ProbeResult:
    """What the predictions of all folds say together, as a probe says it.

    Args:
        rows: scan, subject, fold, truth of every labelled scan.
        lost: how many labelled scans cannot be used.
        read: what `read_fold` gives of each fold.
        folds: subject -> fold.
        target: names the task.
        made_of: scan -> digests of what would be seen of it now.
        told: what else is to be said.
        order: scan -> its place in time; then a subject has one prediction, the mean over its scans, and one
            label as `per_subject` makes it. None: every scan has its own.
        labels: scan -> label before rare classes were merged, by which a subject's class is found; None: as
            in rows.

    Raises:
        CohortError: a scan was predicted in another fold than its subject is in now, or a class is not what
            it was in the training.
    """
    known = {one["fold"]: one for one in read}
    tables = [one["predictions"] for one in read if one["predictions"] is not None]
    place = {scan: fold for table in tables for scan, fold in zip(table.scan, table.fold, strict=True)}
    now = dict(zip(rows.scan, rows.fold, strict=True))
    moved = sorted(scan for scan, fold in place.items() if now.get(scan, fold) != fold)
    if moved:
        raise CohortError(
            f"these scans were predicted in another fold than they are in now: {', '.join(moved[:10])}",
            "the file of splits was changed: `ctssl refresh RUN` begins the run anew",
        )
    seen = [one["made_of"] for one in read]
    notes = [HOW, *told, *([f"{lost} labelled scan(s) have {LOST}"] if lost else []), *_since(seen, made_of)]
    trained = rows[rows.scan.isin(set().union(*seen))]
    # of folds that saw different scans, some predicted nothing
    rows = trained if why_not(trained, target) else trained[trained.scan.isin(place.keys())]
    rows = rows.reset_index(drop=True)
    if target.task == "classify" and not why_not(rows, target):
        _check_classes(rows, tables)
    used = set(rows.scan)
    if order is not None:
        rows, said = _of_subjects(rows, folds, target, order, labels)
        notes += said

    def of_fold(fold: int, train: pd.DataFrame, test: pd.DataFrame, classes: list[str]) -> OfFold:
        one = known[fold]
        said, key = one["predictions"], "scan" if order is None else "subject"
        if order is not None:
            said = _averaged(said[said.scan.isin(used)])
        others = {"scan", "subject", "fold", "truth"} - {key}
        found = test[["scan", "subject", "fold", "truth"]].merge(
            said.drop(columns=list(others & set(said.columns))), on=key
        )
        for name in (f"score_{c}" for c in classes):
            found[name] = found.get(name, 0.0)  # a class unseen in training
        return found, one["record"], one["notes"]

    return over_folds(rows, folds, target, of_fold, notes)


def _check_classes(rows: pd.DataFrame, tables: Sequence[pd.DataFrame]) -> None:
    """Nothing, when the networks know the classes of these rows, and these scans had them in the training.

    Labels that change are trained anew. But which classes are rare depends on who there is, too.

    Raises:
        CohortError: not so.
    """
    now = dict(zip(rows.scan, rows.truth, strict=True))
    then = [pair for table in tables for pair in zip(table.scan, table.truth, strict=True)]
    other = sorted(scan for scan, truth in then if now.get(scan, truth) != truth)
    names = {name.removeprefix("score_") for t in tables for name in t.columns if name.startswith("score_")}
    gone = sort_classes(names - set(rows.truth))
    if not other and not gone:
        return
    said = (
        f"{len(other)} scan(s) are of another class now, as {other[0]}"
        if other
        else f"no scan that counts is of class {', '.join(gone)} now"
    )
    raise CohortError(
        f"classes changed since the training: {said}",
        "`ctssl refresh RUN` trains on the classes that there are",
    )


def _of_subjects(
    rows: pd.DataFrame,
    folds: Mapping[str, int],
    target: Target,
    order: Mapping[str, int],
    labels: pd.Series | None,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """One row for each subject, as `joined` has them, and notes."""
    truth = rows.set_index("scan").truth
    own = truth if labels is None else labels[truth.index]
    cases = per_subject(Cases(rows[["scan", "subject"]], own), target, "mean", order)
    found, _ = join_labels(cases.features, cases.labels, folds)
    if target.task == "classify":
        found["truth"] = found.truth.map(dict(zip(own, truth, strict=True)))
    return found, cases.notes


def _averaged(said: pd.DataFrame) -> pd.DataFrame:
    """subject, prediction, then null or score_CLASS: the means over each subject's scans."""
    scores = [name for name in said.columns if name.startswith("score_")]
    numbers = scores or ["prediction", "null"]
    mean = said.groupby("subject", sort=False)[numbers].mean().reset_index()
    if not scores:
        return mean
    best = [str(name).removeprefix("score_") for name in mean[scores].idxmax(axis=1)]
    return mean.assign(prediction=best)[["subject", "prediction", *scores]]


def _since(seen: Sequence[Mapping[str, str]], now: Mapping[str, str]) -> list[str]:
    """What is other than in the trainings, and what to do.

    Args:
        seen: of each fold scan -> digests of what was seen of it.
        now: the same of the scans that there are.
    """
    some, every = set().union(*seen), set(seen[0]).intersection(*seen)
    changed = {scan for one in seen for scan, digests in one.items() if now.get(scan, digests) != digests}
    repeats = "which `ctssl refresh RUN` repeats"
    counts = {
        f"labelled scan(s) came after the training, {repeats}": len(now.keys() - some),
        "scan(s) of the training are excluded by now": len(some - now.keys()),
        f"scan(s) came or went between the trainings of the folds, {repeats} on the same": len(some - every),
        f"scan(s) have another store or box than in the training, {repeats}": len(changed),
    }
    return [f"{count} {words}" for words, count in counts.items() if count]
