"""Which labelled scans are the cases of a probe: what stands for a subject; what becomes of rare classes."""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin, clone

from ctssl.config.evaluation import Rare, Target
from ctssl.errors import ConfigError
from ctssl.evaluate.labels import feature_matrix, is_ordered, sort_classes

Scans = Literal["all", "first", "mean"]


@dataclass(frozen=True)
class Cases:
    """What a probe is fitted on and tested on.

    Attributes:
        features: columns scan, subject, f000 ..., one row per case; attrs as they were.
        labels: scan -> label; also of scans that have no features, which a probe counts.
        step: makes the features of what stands in the table, or None.
        notes: what was done otherwise than usual.
    """

    features: pd.DataFrame
    labels: pd.Series
    step: Any = None
    notes: tuple[str, ...] = ()


class Averaged(TransformerMixin, BaseEstimator):
    """A step for groups of scans: fitted on all scans of the groups, a group's features are their mean.

    Takes the numbers of groups (n, 1); `groups` holds what the step takes of the scans of each, (k, D).
    """

    def __init__(self, step: Any, groups: Sequence[np.ndarray]) -> None:
        self.step = step
        self.groups = groups

    def __sklearn_clone__(self) -> "Averaged":
        return type(self)(self.step, self.groups)

    def fit(self, x: np.ndarray, y: Any = None) -> "Averaged":
        """This step, fitted on the scans of the groups with these numbers (n, 1)."""
        self.fitted_ = clone(self.step).fit(self._scans(x))
        return self

    def transform(self, x: np.ndarray) -> np.ndarray:
        """(n, D) of the groups with these numbers (n, 1)."""
        found = self.fitted_.transform(self._scans(x))
        ends = np.cumsum([len(self.groups[int(number)]) for number in x[:, 0]])[:-1]
        return np.stack([part.mean(0) for part in np.split(found, ends)])

    def notes(self, x: np.ndarray, inner: Sequence[int] | None) -> list[str]:
        """What the step says of a fit on all scans of these groups (n, 1); inner folds (n,) are of groups."""
        sizes = [len(self.groups[int(number)]) for number in x[:, 0]]
        said: list[str] = self.step.notes(self._scans(x), None if inner is None else np.repeat(inner, sizes))
        return said

    def _scans(self, x: np.ndarray) -> np.ndarray:
        """(m, D) what the step takes of all scans, group by group."""
        return np.concatenate([self.groups[int(number)] for number in x[:, 0]])


def choose(
    cases: Cases, target: Target, how: Scans, order: Mapping[str, int], rare: Rare, folds: int
) -> Cases:
    """The cases of a target by the rules of the config.

    Args:
        cases: all scans and labels.
        target: names the task and whether classes have an order.
        how: what a subject with several labelled scans is, see `per_subject`.
        order: scan -> its place in time, as `visit_order` gives it.
        rare: see `without_rare`.
        folds: a class with fewer subjects is rare.

    Raises:
        ConfigError: rare classes are to be merged, but have no order.
    """
    return without_rare(per_subject(cases, target, how, order), target, rare, folds)


def visit_order(scans: Sequence[str], visits: Mapping[str, str] | None) -> dict[str, int]:
    """Scan -> its place: by visit, numbers before words and what is not known last; then as they stand.

    Args:
        scans: in the order of the manifest.
        visits: scan -> visit as written; None: there is no such column.
    """
    keys = {scan: _visit((visits or {}).get(scan, "")) for scan in scans}
    return {scan: place for place, scan in enumerate(sorted(scans, key=lambda s: keys[s]))}


def per_subject(cases: Cases, target: Target, how: Scans, order: Mapping[str, int]) -> Cases:
    """Cases with one row for each subject, or as they are.

    `first`: the first scan of each subject that has features and a label. `mean`: the mean of the features
    (for a step, of what it makes of each scan), with the mean of numbers (with `log` of the logarithms), the
    most frequent class, of equally frequent ones that of the first scan, the first scan's time of survival;
    the row bears the name of the first scan. `all`: as they are.
    """
    table = cases.features
    labelled = table.scan.isin(cases.labels.index)
    rows = table[labelled].assign(_place=table.scan[labelled].map(dict(order)))
    rows = rows.sort_values("_place", kind="stable").drop(columns="_place")
    if how == "all" or not rows.subject.duplicated().any():
        return cases
    first = rows.drop_duplicates("subject").sort_index()
    left_out = set(rows.scan) - set(first.scan)
    labels = cases.labels[~cases.labels.index.isin(list(left_out))]
    counts = f"{len(rows)} scans of {len(first)} subjects"
    if how == "first":
        said = f"the first labelled scan of each subject counts: {counts}"
        table = _like(first.reset_index(drop=True), cases.features)
        return replace(cases, features=table, labels=labels, notes=(*cases.notes, said))
    groups = dict(list(rows.groupby("subject", sort=False)))
    parts = [groups[subject] for subject in first.subject]
    together = {p.scan.iloc[0]: _together([cases.labels[scan] for scan in p.scan], target) for p in parts}
    values = [feature_matrix(part) for part in parts]
    step = None if cases.step is None else Averaged(cases.step, values)
    means = np.stack([v.mean(0) for v in values]) if step is None else np.arange(len(parts))[:, None]
    table = pd.DataFrame(means.astype(float), columns=[f"f{i:03}" for i in range(means.shape[1])])
    table.insert(0, "scan", first.scan.to_numpy())
    table.insert(1, "subject", first.subject.to_numpy())
    merged = [together.get(scan, label) for scan, label in labels.items()]
    labels = pd.Series(merged, labels.index, dtype=labels.dtype, name=labels.name)
    said = f"features and label of a subject are the mean over its labelled scans: {counts}"
    return Cases(_like(table, cases.features), labels, step, (*cases.notes, said))


def without_rare(cases: Cases, target: Target, rare: Rare, folds: int) -> Cases:
    """Cases whose classes all have as many subjects as there are folds, if the rule says so.

    `drop`: scans of rare classes are no cases. `merge`: the rarest class is counted as its neighbour in the
    order of classes, the one with more subjects (of equals the lower), until none is rare. `keep`, and
    numbers: as they are. A subject counts for each class that one of its scans has.

    Raises:
        ConfigError: classes are to be merged, but have no order.
    """
    return _counted(cases, cases, target, rare, folds)


def scans_of_means(cases: Cases, target: Target, order: Mapping[str, int], rare: Rare, folds: int) -> Cases:
    """All scans, in the classes that `choose` gives to the means over them.

    For a network, which sees scans, so that what it says can be averaged: which classes are rare is decided
    by the labels of subjects, as `per_subject` makes them. A subject that is left out is so with all scans,
    and of one that stays the scans of a class that is left out are no cases.

    Raises:
        ConfigError: as `choose`.
    """
    return _counted(cases, per_subject(cases, target, "mean", order), target, rare, folds)


def counted_as(
    members: Mapping[str, Set[str]], target: Target, rare: Rare, folds: int
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Class -> the class that it is counted as, without classes that are left out; and what is to be said.

    Args:
        members: class -> the subjects that have it.
        target: says whether classes have an order.
        rare: see `without_rare`.
        folds: a class with fewer subjects is rare.

    Raises:
        ConfigError: as `without_rare`.
    """
    into = {name: name for name in members}
    few = [name for name in sort_classes(members) if len(members[name]) < folds]
    if rare == "keep" or not few:
        return into, ()
    if rare == "drop":
        said = ", ".join(f"{name} ({len(members[name])})" for name in few)
        left = {name: name for name in members if name not in few}
        return left, (f"classes with fewer subjects than {folds} folds are left out: {said}",)
    if not is_ordered(members, target):
        raise ConfigError(
            f"target {target.name}: rare: merge joins neighbours, but the classes "
            f"{', '.join(sort_classes(members))} have no order",
            "give the target `ordered: true` if their names rise with what they mean, or `rare: drop`",
        )
    now, told = {name: set(who) for name, who in members.items()}, []
    while len(now) > 1 and min(map(len, now.values())) < folds:
        classes = sort_classes(now)
        rarest = min(classes, key=lambda name: len(now[name]))
        place = classes.index(rarest)
        near = [classes[i] for i in (place - 1, place + 1) if 0 <= i < len(classes)]
        larger = max(near, key=lambda name: len(now[name]))
        gone = now.pop(rarest)
        now[larger] |= gone
        into = {name: larger if last == rarest else last for name, last in into.items()}
        told.append(
            f"{rarest} ({len(gone)} subjects) is counted as {larger}, which then has {len(now[larger])}"
        )
    said = f"classes with fewer subjects than {folds} folds are merged: {'; '.join(told)}"
    return into, (said,) if told else ()


def _counted(cases: Cases, counted: Cases, target: Target, rare: Rare, folds: int) -> Cases:
    """The cases in classes as `counted_as` says of those `counted`: the same, or the means over them."""
    subject, people = _subjects(cases), _subjects(counted)
    if target.task != "classify" or rare == "keep" or not subject:
        return cases
    members: dict[str, set[str]] = {cases.labels[scan]: set() for scan in subject}
    for scan, who in people.items():
        members[counted.labels[scan]].add(who)
    into, notes = counted_as(members, target, rare, folds)
    if not notes:
        return cases
    gone = members.keys() - into.keys()
    away = {subject[scan] for scan in people if counted is not cases and counted.labels[scan] in gone}
    left_out = [scan for scan, who in subject.items() if cases.labels[scan] in gone or who in away]
    labels = cases.labels[~(cases.labels.isin(list(gone)) | cases.labels.index.isin(left_out))]
    labels = pd.Series([into.get(n, n) for n in labels], labels.index, dtype=labels.dtype, name=labels.name)
    table = cases.features
    if left_out:
        table = _like(table[~table.scan.isin(left_out)].reset_index(drop=True), table)
    return replace(cases, features=table, labels=labels, notes=(*cases.notes, *notes))


def _subjects(cases: Cases) -> dict[str, str]:
    """Scan -> subject, of labelled scans that have features."""
    rows = cases.features[cases.features.scan.isin(cases.labels.index)]
    return dict(zip(rows.scan, rows.subject, strict=True))


def _together(labels: Sequence[Any], target: Target) -> Any:
    """The label of a subject whose scans, in order, have these."""
    if target.task == "regress":
        return float(np.mean(labels))
    return Counter(labels).most_common(1)[0][0] if target.task == "classify" else labels[0]


def _like(table: pd.DataFrame, whole: pd.DataFrame) -> pd.DataFrame:
    """The table, of which the same is said as of the whole one."""
    table.attrs = dict(whole.attrs)
    return table


def _visit(text: str) -> tuple[int, float, str]:
    """What visits are sorted by."""
    text = text.strip()
    if not text or text.lower() in ("na", "nan"):
        return 2, 0.0, ""
    try:
        return 0, float(text), ""
    except ValueError:
        return 1, 0.0, text
