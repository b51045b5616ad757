"""Labels as text, from the manifest, become the values that a probe predicts, joined to features."""

import math
import re
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from ctssl.config.study import Target
from ctssl.errors import CohortError, ManifestError
from ctssl.manifest import is_known

SENTINEL = -1024
"""What the released code of Context_Aware_SSL writes where a label is missing."""

_INTEGRAL = re.compile(r"([+-]?\d+)\.0+")
_INTEGER = re.compile(r"[+-]?\d+")
_FEATURE = re.compile(r"f\d+")
_SHOWN = 10


def read_labels(values: Mapping[str, str], target: Target) -> pd.Series:
    """The labels of the scans that have one: float64 to regress, class names (str) to classify.

    The index holds scans, in the order given; the series bears the target's name. With `target.log` the
    values are natural logarithms. A class written as 2.0 is class 2.

    Args:
        values: scan -> label as it stands in the manifest; "", na and nan (any case) mean missing.
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
    return pd.Series(labels, index, dtype=float if target.task == "regress" else object, name=target.name)


def integer_classes(names: Iterable[str]) -> bool:
    """Whether every class is named by an integer, so that classes have an order and distances."""
    return all(_INTEGER.fullmatch(name) for name in names)


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


def _feature_columns(features: pd.DataFrame) -> list[str]:
    return [name for name in features.columns if _FEATURE.fullmatch(name)]


def _value(text: str, target: Target) -> float | str:
    if target.task == "classify":
        whole = _INTEGRAL.fullmatch(text)
        return whole.group(1) if whole else text
    return math.log(float(text)) if target.log else float(text)


def _fault(text: str, target: Target) -> str:
    number = _number(text)
    if number == SENTINEL:
        return f"{text!r} is the old sign for a missing label"
    if target.task == "classify":
        return ""
    if not math.isfinite(number):
        comma = "; write it with a point" if re.fullmatch(r"[+-]?\d+,\d+", text) else ""
        return f"{text[:40]!r} is not a finite number{comma}"
    return f"{text!r} is not above 0, so it has no logarithm" if target.log and number <= 0 else ""


def _number(text: str) -> float:
    """The number, or nan: float() alone would read 1_0 as 10."""
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


def _error(faults: Mapping[str, str], target: Target) -> ManifestError:
    lines = [f"scan {scan}: {fault}" for scan, fault in faults.items()]
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    kind = "class names" if target.task == "classify" else "numbers" + (" above 0" if target.log else "")
    return ManifestError(
        f"column {target.column} (target {target.name}) should hold {kind}:\n  "
        + "\n  ".join(lines[:_SHOWN] + more),
        "correct these labels in the table of scans, or leave the cell empty where the label is not known",
    )
