"""Labels as text, from the manifest, become the values that a probe predicts, joined to features."""

import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal

import numpy as np
import pandas as pd

from ctssl import outcomes
from ctssl.config.evaluation import Target
from ctssl.errors import CohortError, ManifestError
from ctssl.manifest import is_known
from ctssl.outcomes import integer_classes

SENTINEL = -1024
"""What the released code of Context_Aware_SSL writes where a label is missing."""

_NUMBER = re.compile(r"[+-]?(\d{1,300}\.?\d{0,300}|\.\d{1,300})([eE][+-]?\d{1,3})?", re.ASCII)
_FEATURE = re.compile(r"f\d+")
_SHOWN = 10


def read_labels(values: Mapping[str, str], target: Target) -> pd.Series:
    """The labels of the scans that have one: float64, or class names (str) to classify.

    The index holds scans, in the order given; the series bears the target's name. With `target.log` the
    values are natural logarithms. A class written as 2.0 is class 2. To survive, values are times, with a
    minus where the event did not come.

    Args:
        values: scan -> label as it stands in the manifest, of a time to an event as `ctssl.outcomes.texts`
            gives it; "", na and nan (any case) mean missing.
        target: which task the labels serve.

    Raises:
        ManifestError: lists every scan with the sentinel -1024, with something that is not a finite number
            where one is needed, or with a value not above 0 where the logarithm is wanted.
    """
    present = {scan: text.strip() for scan, text in values.items() if is_known(text)}
    faults = {scan: fault for scan, text in present.items() if (fault := _fault(text, target))}
    if faults:
        raise _error(faults, target)
    labels = [_value(text, target) for text in present.values()]
    index = pd.Index(list(present), name="scan", dtype=object)
    return pd.Series(labels, index, dtype=object if target.task == "classify" else float, name=target.name)


def number(text: str) -> float:
    """The number, or nan: float() alone would read 1_0 as 10."""
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


def is_sentinel(text: str) -> bool:
    """Whether this is the old sign for a missing value."""
    return number(text) == SENTINEL


def one_spelling(values: Mapping[str, str]) -> dict[str, str]:
    """The same values, the same number always written alike: 1.5 for 1.50, 1 for 01 and 1.0.

    Of the spellings that occur the shortest counts, of equally short ones the first by name. What occurs in
    one spelling stays as it is, so a site 007 does, unless there is a 7, too.
    """
    texts = {key: text.strip() for key, text in values.items()}
    there = sorted(set(texts.values()), key=lambda text: (len(text), text))
    exact = {text: Decimal(text) for text in there if _NUMBER.fullmatch(text)}
    shortest = {value: text for text, value in reversed(exact.items())}
    return {key: shortest[exact[text]] if text in exact else text for key, text in texts.items()}


def is_ordered(names: Iterable[str], target: Target) -> bool:
    """Whether the classes of a target have an order, that of `sort_classes`."""
    return integer_classes(names) if target.ordered is None else target.ordered


def sort_classes(names: Iterable[str]) -> list[str]:
    """The classes, each once: by number where all are integers, else by name."""
    unique = sorted(set(names))
    return sorted(unique, key=int) if integer_classes(unique) else unique


def feature_matrix(features: pd.DataFrame) -> np.ndarray:
    """(n, D) float64: the columns f000, f001, ... of a table."""
    return features[_feature_columns(features)].to_numpy(float)


def join_labels(
    features: pd.DataFrame, labels: pd.Series, folds: Mapping[str, int]
) -> tuple[pd.DataFrame, int]:
    """Columns scan, subject, fold, truth, f000 ... of labelled scans, and how many labels have no features.

    Args:
        features: columns scan, subject, f000 ..., one row per scan.
        labels: scan -> label, as `read_labels` gives it.
        folds: subject -> fold.

    Raises:
        CohortError: a scan comes twice, has a feature that is no finite number, or a subject without a fold.
    """
    columns = _feature_columns(features)
    faults = {
        "one row of features": features.scan.duplicated(keep=False),
        "finite features": ~np.isfinite(feature_matrix(features)).all(1),
        "a subject with a fold": ~features.subject.isin(list(folds)),
    }
    for expected, bad in faults.items():
        if bad.any():
            scans = ", ".join(sorted(set(features.scan[bad]))[:_SHOWN])
            raise CohortError(
                f"every scan should have {expected}, but not so: {scans}",
                "run the workflow again; if this stays, delete the features and splits of this cohort",
            )
    rows = features[features.scan.isin(labels.index)].reset_index(drop=True)
    truth = rows.scan.map(labels.to_dict())
    front = rows[["scan", "subject"]].assign(fold=rows.subject.map(dict(folds)).astype(int), truth=truth)
    return pd.concat([front, rows[columns]], axis=1), int((~labels.index.isin(features.scan)).sum())


def in_folds(rows: pd.DataFrame, folds: Mapping[str, int]) -> pd.DataFrame:
    """The rows with column fold as these folds say.

    Raises:
        CohortError: a subject has none.
    """
    if missing := sorted(set(rows.subject) - folds.keys()):
        raise CohortError(
            f"every subject should have a fold, but not so: {', '.join(missing[:_SHOWN])}",
            "run the workflow again; if this stays, delete the splits of this cohort",
        )
    return rows.assign(fold=rows.subject.map(dict(folds)).astype(int))


def _feature_columns(features: pd.DataFrame) -> list[str]:
    return [name for name in features.columns if _FEATURE.fullmatch(name)]


def _value(text: str, target: Target) -> float | str:
    if target.task == "survive":
        return outcomes.value(text)
    if target.task == "classify":
        return outcomes.class_of(text)
    return math.log(float(text)) if target.log else float(text)


def _fault(text: str, target: Target) -> str:
    if is_sentinel(text):
        return f"{text!r} is the old sign for a missing label"
    if target.task == "classify":
        return ""
    if target.task == "survive":
        return "" if math.isfinite(outcomes.value(text)) else f"{text[:40]!r} is no time above 0"
    if not math.isfinite(number(text)):
        comma = "; write it with a point" if re.fullmatch(r"[+-]?\d+,\d+", text) else ""
        return f"{text[:40]!r} is not a finite number{comma}"
    return f"{text!r} is not above 0, so it has no logarithm" if target.log and number(text) <= 0 else ""


def _error(faults: Mapping[str, str], target: Target) -> ManifestError:
    lines = [f"scan {scan}: {fault}" for scan, fault in faults.items()]
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    above = " above 0" if target.log or target.task == "survive" else ""
    kind = "class names" if target.task == "classify" else f"numbers{above}"
    return ManifestError(
        f"column {target.column} (target {target.name}) should hold {kind}:\n  "
        + "\n  ".join(lines[:_SHOWN] + more),
        "correct these labels in the table of scans, or leave the cell empty where the label is not known",
    )
