"""Folds that leave out one value of a column each, such as one site: who is in which, as a file."""

import csv
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ctssl.errors import CohortError
from ctssl.escaping import in_csv
from ctssl.evaluate.labels import one_spelling
from ctssl.evaluate.splits import read_splits
from ctssl.files import write_whole
from ctssl.manifest import is_known

COLUMNS = ("subject", "fold", "value", "scans_elsewhere")


@dataclass(frozen=True)
class LeftOut:
    """Who is tested when which value is left out.

    Attributes:
        folds: subject -> fold.
        names: fold -> value.
        elsewhere: subject -> how many of its scans have another value than that of its fold.
    """

    folds: dict[str, int]
    names: dict[int, str]
    elsewhere: dict[str, int]

    def notes(self, column: str, subjects: set[str]) -> list[str]:
        """What is to be said of these subjects."""
        split = sum(1 for s in subjects if self.elsewhere.get(s))
        lost = len(subjects - self.folds.keys())
        said = [f"each fold leaves out one {column}"]
        said += [f"{lost} subject(s) have no {column} and take no part"] if lost else []
        if split:
            said.append(f"{split} subject(s) have scans of several values, and go with that of most scans")
        return said


def leave_out(values: Mapping[str, str], subjects: Mapping[str, str]) -> LeftOut:
    """One fold for each value, in the order of their names; a subject goes with the value of most its scans.

    Of equally frequent values the first by name counts. A subject whose values are not known has no fold.
    One number is one value, however it is written.

    Args:
        values: scan -> value as it stands in the manifest.
        subjects: scan -> subject.
    """
    values, found = one_spelling(values), dict[str, Counter[str]]()
    for scan, subject in subjects.items():
        if is_known(values[scan]):
            found.setdefault(subject, Counter())[values[scan]] += 1
    most = {s: min(counts, key=lambda value: (-counts[value], value)) for s, counts in found.items()}
    names = dict(enumerate(sorted(set(most.values()))))
    number = {value: fold for fold, value in names.items()}
    return LeftOut(
        folds={s: number[most[s]] for s in sorted(most)},
        names=names,
        elsewhere={s: counts.total() - counts[most[s]] for s, counts in sorted(found.items())},
    )


def write_left_out(path: Path, found: LeftOut) -> None:
    """Nothing; writes what `read_left_out` reads: csv with the columns of COLUMNS."""
    text = io.StringIO()
    rows = [(s, f, in_csv(found.names[f]), found.elsewhere[s]) for s, f in found.folds.items()]
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    write_whole(path, text.getvalue().encode())


def read_left_out(path: Path) -> LeftOut:
    """The folds that the file says.

    Raises:
        CohortError: it cannot be read, or lacks a column.
    """
    folds = read_splits(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        names = {int(row["fold"]): row["value"] for row in rows}
        return LeftOut(folds, names, {row["subject"]: int(row["scans_elsewhere"]) for row in rows})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CohortError(
            f"{path} should have the columns {', '.join(COLUMNS)}: {error!r}",
            "delete it and run the same snakemake command",
        ) from error
