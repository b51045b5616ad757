"""Networks trained on labels inside each fold: who is trained on, held out, tested."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctssl.cards import read_card
from ctssl.config.evaluation import Target
from ctssl.errors import CohortError
from ctssl.escaping import in_csv
from ctssl.evaluate.labels import sort_classes
from ctssl.evaluate.probes import why_not
from ctssl.evaluate.splits import assign_folds
from ctssl.files import write_whole

TRAIN, HELD, TEST = "train", "held out", "test"
QUARTERS = 4
"""Strata of a number, of which each gives the same share of its subjects to those held out."""

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
