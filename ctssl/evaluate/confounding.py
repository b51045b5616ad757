"""Confounders: columns that say nothing of the lungs, as what is predicted and as what predicts."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from ctssl.config.evaluation import Target, Task
from ctssl.evaluate.labels import number, read_labels, sort_classes
from ctssl.manifest import is_known

FEW_VALUES = 10
"""Numbers of so few distinct values are classes, as slice thicknesses are."""


def as_target(name: str, column: str, values: Mapping[str, str], task: Task | None = None) -> Target:
    """The confounder as a target: classes when a value is no number or there are few, else numbers.

    Its classes have no order: codes of sites are often integers.

    Args:
        name: of the target.
        column: where the values stand.
        values: scan -> value as text, as `one_spelling` gives it; "", na and nan mean missing.
        task: taken as this whatever the values are.
    """
    if task is None:
        known = {text.strip() for text in values.values() if is_known(text)}
        numbers = {value for text in known if math.isfinite(value := number(text))}
        classes = len(numbers) <= FEW_VALUES or any(not math.isfinite(number(text)) for text in known)
        task = "classify" if classes else "regress"
    return Target(name=name, column=column, task=task, ordered=False if task == "classify" else None)


def as_features(values: Mapping[str, str], subjects: Mapping[str, str], target: Target) -> pd.DataFrame:
    """A table of features that holds the confounder alone: columns scan, subject, f000, f001, ...

    One column a class, 1 where the scan is of it; or the number. Scans whose value is not known are left
    out.

    Args:
        values: scan -> value as text.
        subjects: scan -> subject, of the scans that are used.
        target: as `as_target` gives it.
    """
    known = read_labels({scan: values.get(scan, "") for scan in subjects}, target)
    if target.task == "classify":
        table = pd.DataFrame({c: (known == c).to_numpy(float) for c in sort_classes(known)})
    else:
        table = pd.DataFrame({target.name: known.to_numpy(float)})
    table.columns = [f"f{i:03}" for i in range(table.shape[1])]
    table.insert(0, "scan", np.asarray(known.index, object))
    table.insert(1, "subject", [subjects[scan] for scan in known.index])
    return table
