"""Networks trained on labels inside each fold: who is trained on, held out, tested; joining the folds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctssl.cards import read_card
from ctssl.config.study import Target
from ctssl.errors import CohortError
from ctssl.escaping import in_csv
from ctssl.evaluate.labels import sort_classes
from ctssl.evaluate.probes import OfFold, ProbeResult, over_folds, why_not
from ctssl.evaluate.splits import assign_folds
from ctssl.files import write_whole

TRAIN, HELD, TEST = "train", "held out", "test"
QUARTERS = 4
"""Strata of a number, of which each gives the same share of its subjects to those held out."""

HOW = (
    "no frozen features: a network was trained on the labels of each fold's training part, and on nothing of "
    "its test part"
)
"""What every result says, and so every table."""

LOST = "no store or no box, or show no landmark where one is needed"
"""What is said of labelled scans that cannot be used."""

MEMBERS, PREDICTIONS = "scans.csv", "predictions.csv"
"""Beside the record of a fold, for people."""


@dataclass(frozen=True)
class FoldPlan:
    """What is done in one fold.

    Attributes:
        rows: scan, subject, fold, truth, part (TRAIN, HELD or TEST) of every labelled scan.
        classes: of the training part, held out or not; none to regress.
        network: whether a network is trained; else what needs none is predicted.
        notes: what was done otherwise than usual.
    """

    rows: pd.DataFrame
    classes: list[str]
    network: bool
    notes: list[str]

    def of(self, *parts: str) -> pd.DataFrame:
        """The rows of these parts."""
        return self.rows[self.rows.part.isin(parts)]


def plan_fold(rows: pd.DataFrame, fold: int, target: Target, parts: int, seed: int) -> FoldPlan:
    """Who does what in one fold.

    The validation share is one part in `parts` of the training subjects, balanced over classes or quarters of
    the numbers; with fewer than two subjects in it, or left, nobody is held out. There is nothing to train
    without a scan to test, with one class, or one subject, in training, nor where `probe` would measure
    nothing.

    Args:
        rows: scan, subject, fold, truth of every labelled scan.
        fold: which one is tested.
        target: names the task.
        parts: into how many the training subjects are dealt.
        seed: of the dealing.
    """
    test = rows.fold == fold
    train = rows[~test]
    plan = rows.assign(part=np.where(test, TEST, TRAIN))
    classes = sort_classes(train.truth) if target.task == "classify" else []
    if why_not(rows, target) or not test.any():
        return FoldPlan(plan, classes, False, [])
    if len(classes) == 1:
        return FoldPlan(plan, classes, False, [f"one class in training, so {classes[0]} is predicted"])
    if not classes and train.subject.nunique() < 2:
        return FoldPlan(plan, classes, False, ["one training subject, so its mean is predicted"])
    held = held_out(train, bool(classes), parts, seed)
    if min(len(held), train.subject.nunique() - len(held)) < 2:
        said = "too few subjects to hold any out, so training was not stopped early"
        return FoldPlan(plan, classes, True, [said])
    plan.loc[plan.subject.isin(held), "part"] = HELD
    return FoldPlan(plan, classes, True, [])


def held_out(train: pd.DataFrame, classes: bool, parts: int, seed: int) -> set[str]:
    """The subjects held out of a training part: one part of so many, each class or quarter of numbers alike.

    Each class stays in training with one of its subjects at least, whatever other classes that has. A subject
    of several classes counts for the rarest, by subjects, of the equally rare for the first by name.

    Args:
        train: columns subject, truth.
        classes: whether truth is a class; else a number, of which a subject's mean counts.
        parts: how many parts the subjects are dealt into.
        seed: of the dealing.
    """
    carriers: dict[str, set[str]] = {}
    if classes:
        carriers = {str(name): set(these.subject) for name, these in train.groupby("truth")}
        rare_last = sorted(carriers, key=lambda name: (len(carriers[name]), name), reverse=True)
        stratum = {subject: name for name in rare_last for subject in carriers[name]}
    else:
        mean = train.groupby("subject").truth.mean()
        quarter = (mean.rank(method="first") - 1) * QUARTERS // len(mean)
        stratum = {str(subject): str(int(q)) for subject, q in quarter.items()}
    alone = {min(who): 1 for who in carriers.values() if len(who) == 1}
    fold = assign_folds(list(stratum), stratum, parts, seed, alone)
    held = {subject for subject, number in fold.items() if number == 0}
    for name in sorted(carriers):  # of those with several classes, all of one can still be among them
        if carriers[name] <= held:
            held.remove(min(carriers[name]))
    return held


def predicted(plan: FoldPlan, values: np.ndarray | None) -> pd.DataFrame:
    """scan, subject, fold, truth, prediction, then null or score_CLASS of the fold's test scans.

    Args:
        plan: of the fold.
        values: (n, 1) numbers or (n, classes) probabilities of the test scans; None: no network was trained,
            so the training mean, or the only class, is predicted.
    """
    rows, train = plan.of(TEST).drop(columns="part"), plan.of(TRAIN, HELD)
    if not plan.classes:
        null = train.truth.mean()
        return rows.assign(prediction=null if values is None else values[:, 0], null=null)
    if values is None:
        values = np.ones((len(rows), 1))
    scores = pd.DataFrame(values, index=rows.index, columns=plan.classes)
    return pd.concat([rows.assign(prediction=scores.idxmax(axis=1)), scores.add_prefix("score_")], axis=1)


def write_fold(
    path: Path,
    fold: int,
    plan: FoldPlan,
    found: pd.DataFrame | None,
    record: dict[str, Any],
    made_of: Mapping[str, str],
) -> None:
    """Nothing; writes what `read_fold` reads, and beside it two tables for people: who was what, predictions.

    Args:
        path: of the record.
        fold: its number.
        plan: of the fold.
        found: the predictions; None: there is nothing to predict.
        record: what else the result says of the fold.
        made_of: scan -> digests of what is seen of it, of every labelled scan.
    """
    columns = ["scan", "subject", "fold", "truth", "prediction"]
    table = pd.DataFrame(columns=columns) if found is None else found
    for name, shown in ((MEMBERS, plan.rows[["scan", "subject", "part"]]), (PREDICTIONS, table)):
        write_whole(path.with_name(name), shown.map(in_csv).to_csv(index=False, lineterminator="\n").encode())
    values = {"fold": fold, "record": record, "notes": plan.notes, "made_of": dict(made_of)}
    values["predictions"] = None if found is None else found.to_dict("list")
    write_whole(path, (json.dumps(values, allow_nan=False) + "\n").encode())


def read_fold(path: Path) -> dict[str, Any]:
    """fold, record, notes, made_of, and predictions as a table, or None.

    Raises:
        CohortError: the file holds no such thing.
    """
    try:
        values = read_card(path)
        found, _ = values["predictions"], values["made_of"]
        return {**values, "predictions": None if found is None else pd.DataFrame(found)}
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError) as error:
        raise CohortError(f"{path} holds no fold: {error}", "delete it and run the workflow") from error


def joined(
    rows: pd.DataFrame,
    lost: int,
    read: Sequence[Mapping[str, Any]],
    folds: Mapping[str, int],
    target: Target,
    made_of: Mapping[str, str],
) -> ProbeResult:
    """What the predictions of all folds say together, as a probe says it.

    Args:
        rows: scan, subject, fold, truth of every labelled scan.
        lost: how many labelled scans cannot be used.
        read: what `read_fold` gives of each fold.
        folds: subject -> fold.
        target: names the task.
        made_of: scan -> digests of what would be seen of it now.

    Raises:
        CohortError: a scan was predicted in another fold than its subject is in now.
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
    notes = [HOW, *([f"{lost} labelled scan(s) have {LOST}"] if lost else []), *_since(seen, made_of)]
    trained = rows[rows.scan.isin(set().union(*seen))]
    # of folds that saw different scans, some predicted nothing
    rows = trained if why_not(trained, target) else trained[trained.scan.isin(place.keys())]
    rows = rows.reset_index(drop=True)

    def of_fold(fold: int, train: pd.DataFrame, test: pd.DataFrame, classes: list[str]) -> OfFold:
        one = known[fold]
        found = test[["scan", "subject", "fold", "truth"]].merge(
            one["predictions"].drop(columns=["subject", "fold", "truth"]), on="scan"
        )
        for name in (f"score_{c}" for c in classes):
            found[name] = found.get(name, 0.0)  # a class unseen in training
        return found, one["record"], one["notes"]

    return over_folds(rows, folds, target, of_fold, notes)


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
