"""Folds: which subjects are tested together. A file on disk, by subject, and extensible."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ctssl.errors import CohortError
from ctssl.files import write_whole
from ctssl.log import say

COLUMNS = ("subject", "fold")


def assign_folds(
    subjects: Sequence[str], strata: Mapping[str, str] | None, folds: int, seed: int, kept: Mapping[str, int]
) -> dict[str, int]:
    """Subject -> fold, 0 to folds - 1, for all subjects and all that are kept, sorted by subject.

    A new subject goes to the fold that holds fewest of its stratum, then fewest subjects; ties go by a
    seeded order. Starting from none, the folds' sizes, also within a stratum, differ by at most one, and
    the order in which subjects come does not matter.

    Args:
        subjects: who is to be split; one that comes twice counts once.
        strata: subject -> stratum to balance folds on; a subject that is not in it has stratum "".
        folds: how many folds.
        seed: another seed, another split.
        kept: subject -> fold from before, left as it is. Those who are not in `subjects` any more keep
            their fold for the day they return, and do not count for the balance.

    Raises:
        CohortError: a kept fold is not one of the folds.
    """
    foreign = {s: f for s, f in kept.items() if not 0 <= f < folds}
    if foreign:
        subject, fold = min(foreign.items())
        raise CohortError(f"{folds} folds have numbers below {folds}, but {subject} is in fold {fold}", _ANEW)
    stratum = {s: (strata or {}).get(s, "") for s in subjects}
    size = Counter(kept[s] for s in stratum if s in kept)
    held = Counter((stratum[s], kept[s]) for s in stratum if s in kept)
    result = dict(kept)
    # Stratum by stratum: only then are both the strata and the totals even.
    for subject in sorted(stratum.keys() - kept.keys(), key=lambda s: (stratum[s], _order(seed, s))):
        fold = min(
            range(folds), key=lambda f: (held[stratum[subject], f], size[f], _order(seed, f"{subject}/{f}"))
        )
        result[subject] = fold
        size[fold] += 1
        held[stratum[subject], fold] += 1
    return dict(sorted(result.items()))


def inner_folds(subjects: Iterable[str], classes: Iterable[str] | None, folds: int) -> list[int] | None:
    """A fold for each scan of a training set, to choose a penalty in: by subject, balanced over classes.

    There are at most as many folds as subjects. None when fewer than two classes have two subjects: then a
    fold could leave one class to train on. A subject of several classes counts for the first by name.

    Args:
        subjects: the subject of each scan.
        classes: the class of each scan, or None where numbers are predicted.
        folds: how many folds, if there are as many subjects.
    """
    people = list(subjects)
    strata = None
    if classes is not None:
        strata = dict(sorted(zip(people, classes, strict=True), reverse=True))
        if sum(count > 1 for count in Counter(strata.values()).values()) < 2:
            return None
    fold = assign_folds(people, strata, min(folds, len(set(people))), 0, {})
    return [fold[subject] for subject in people]


def write_splits(
    path: Path, subjects: Sequence[str], strata: Mapping[str, str] | None, folds: int, seed: int
) -> dict[str, int]:
    """Subject -> fold, as the file at `path` now says (csv with columns subject, fold).

    Subjects in a file that is there keep their fold, when the file was made for as many folds; otherwise
    everybody is split anew. The file is replaced in one step, and left alone when nothing changes. It does
    not know its seed and strata: give every pair of them a path of its own.

    Raises:
        CohortError: the file at `path` is not one of splits.
    """
    kept = read_splits(path) if path.exists() else {}
    if not _fits(kept, folds):
        say(f"{path} was made for another number of folds; all subjects are split anew into {folds}")
        kept = {}
    result = assign_folds(subjects, strata, folds, seed, kept)
    if result != kept or not path.exists():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([COLUMNS, *result.items()])
        write_whole(path, text.getvalue().encode())
    return result


def read_splits(path: Path) -> dict[str, int]:
    """Subject -> fold, as the file says.

    Raises:
        CohortError: the file cannot be read, lacks a column, or has a subject twice or a fold that is none.
    """
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            if not set(COLUMNS) <= set(reader.fieldnames or ()):
                raise CohortError(f"{path} should have the columns {', '.join(COLUMNS)}", _ANEW)
            rows = [(row["subject"], row["fold"] or "") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CohortError(f"{path} cannot be read: {error}", _ANEW) from error
    for subject, fold in rows:
        if not (fold.isascii() and fold.isdigit()):
            raise CohortError(f"{path}: the fold of {subject} should be 0 or more, but is {fold!r}", _ANEW)
    twice = sorted(s for s, count in Counter(s for s, _ in rows).items() if count > 1)
    if twice:
        raise CohortError(f"{path}: a subject has one fold, but {', '.join(twice)} come(s) twice", _ANEW)
    return {subject: int(fold) for subject, fold in rows}


_ANEW = "correct the file of splits, or delete it: then all subjects are split anew"


def _fits(kept: Mapping[str, int], folds: int) -> bool:
    """Whether these folds were made for this number of folds: none beyond, and none left empty."""
    return max(kept.values(), default=0) < folds and len(set(kept.values())) == min(folds, len(kept))


def _order(seed: int, name: str) -> bytes:
    """A place in a seeded order that depends on nobody else's name."""
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()
