"""What is known of a subject without a scan, as features: numbers, classes, and what stands for neither.

The table holds numbers, and of classes a number each; nan is what is not known. All that is learnt of others
(medians, most frequent classes, which classes there are) is fitted on training scans, in a step.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ctssl.errors import ManifestError
from ctssl.evaluate.handmade.steps import CLINICAL, Step
from ctssl.evaluate.labels import is_sentinel, number
from ctssl.log import say
from ctssl.manifest import is_known


def clinical_table(
    scans: Sequence[str], subjects: Sequence[str], columns: Mapping[str, Mapping[str, str]]
) -> pd.DataFrame:
    """Columns scan, subject, f000, ..., one a column of the manifest; attrs say what is still to be fitted.

    A column is one of numbers where all that is known in it are finite numbers, else one of classes; notes in
    attrs say which. Of a column that is mixed, the log names the cells that are no numbers.

    Args:
        scans, subjects: of the rows.
        columns: name -> scan -> text.

    Raises:
        ManifestError: a cell holds -1024, the old sign for what is missing.
    """
    table, kinds = pd.DataFrame({"scan": list(scans), "subject": list(subjects)}), []
    notes: list[str] = []
    for place, (name, texts) in enumerate(columns.items()):
        known = {scan: texts[scan].strip() for scan in scans if is_known(texts[scan])}
        _check(name, known)
        values = {scan: number(text) for scan, text in known.items()}
        words = {scan: known[scan] for scan, value in values.items() if not np.isfinite(value)}
        if words:
            names = sorted(set(known.values()))
            values = {scan: float(names.index(text)) for scan, text in known.items()}
        table[f"f{place:03}"] = np.array([values.get(scan, np.nan) for scan in scans], float)
        kinds.append("classes" if words else "numbers")
        notes.append(f"{name} ({_kind(name, words, len(known))})")
    said = [f"clinical columns: {', '.join(notes)}"]
    table.attrs["fitted"] = {"kind": CLINICAL, "columns": list(columns), "kinds": kinds, "notes": said}
    return table


def _kind(name: str, words: Mapping[str, str], known: int) -> str:
    """What a column is; says in the log why, where only some of what is known are numbers.

    Args:
        name: of the column.
        words: scan -> text that is no number.
        known: how many texts there are.
    """
    if len(words) in (0, known):
        return "classes" if words else "numbers"
    for scan, text in list(words.items())[:_SHOWN]:
        say(f"column {name}: scan {scan} holds {text[:40]!r}, which is no number, so all values are classes")
    return f"classes, as {len(words)} of {known} values {'is' if len(words) == 1 else 'are'} no number"


def _check(name: str, known: Mapping[str, str]) -> None:
    """Nothing, when no text of a column, by scan, is the old sign for what is missing.

    Raises:
        ManifestError: one is.
    """
    if old := [scan for scan, text in known.items() if is_sentinel(text)]:
        raise ManifestError(
            f"column {name} (baseline clinical) should hold values, but -1024, the old sign for a missing "
            f"one, stands in scan(s) {', '.join(old[:_SHOWN])}",
            "leave these cells empty in the table of scans",
        )


class Clinical(Step):
    """Numbers with the training median where they are missing, one feature a class, and what was missing.

    `values` (scans, columns) has nan where nothing is known; `about` names `kinds` of the columns, numbers or
    classes. A class that training did not have is no class at all.

    Source: scikit-learn's SimpleImputer, OneHotEncoder and MissingIndicator, as they are.
    """

    def _fitted(self, scans: np.ndarray) -> Any:
        """The transformer of columns."""
        from sklearn.compose import ColumnTransformer
        from sklearn.impute import MissingIndicator, SimpleImputer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder

        kinds = np.array(self.about["kinds"])
        median, frequent = (SimpleImputer(strategy=s, keep_empty_features=True) for s in _FILLED)
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        parts = [
            ("numbers", median, np.flatnonzero(kinds == "numbers")),
            ("classes", make_pipeline(frequent, one_hot), np.flatnonzero(kinds == "classes")),
            ("missing", MissingIndicator(error_on_new=False), np.arange(len(kinds))),
        ]
        # A part without columns is left out: some transformers refuse those.
        return ColumnTransformer([part for part in parts if len(part[2])]).fit(self.values[scans])

    def transform(self, x: np.ndarray) -> np.ndarray:
        """(n, features) of the scans with these numbers (n, 1)."""
        return np.asarray(self.fitted_.transform(self.values[x[:, 0].astype(np.int64)]), float)


_FILLED = ("median", "most_frequent")
_SHOWN = 10
