"""Tables of phenotypes, as studies hand them out: found by the names of their columns, read cell by cell.

Only columns that are asked for are looked at; nothing else of a table is kept.
"""

import csv
import io
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ctssl.cohorts.folder import GONE, LINKED, find_links, visible
from ctssl.cohorts.missing import shown
from ctssl.errors import CohortError
from ctssl.table import MOST_BYTES

SUFFIXES = (".txt", ".tsv", ".tab", ".csv")
_VISIT = "visitnum"
_LATER = {"1": "", "2": "_p2"}
_NO_TABLE = re.compile(
    r".*\.((txt|tsv|tab|csv)\.(gz|bz2|xz)|zip|tgz|tar|tar\.gz|xlsx?|ods|sas7bdat|sav|dta|rds|rdata|parquet)",
    re.IGNORECASE,
)
_HEAD_BYTES = 1 << 22  # a header of thousands of columns has 100 kB


@dataclass(frozen=True)
class Source:
    """A column of a file.

    Attributes:
        path: of the file.
        column: its name there.
        name: its name in small letters, without `_p1`; with `_p2` where a row tells of the second visit.
        cells: subject -> the cell as written, and its line.
    """

    path: Path
    column: str
    name: str
    cells: dict[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The column, and of which rows where the name does not say it."""
        of_later = self.name.endswith("_p2") and not self.column.lower().endswith("_p2")
        return f"{self.column} (second visit)" if of_later else self.column


@dataclass(frozen=True)
class Table:
    """A file with the key.

    Attributes:
        path: of the file.
        subjects: who has a row; None where it was not read, as it has no wanted column.
        visits: what its column visitnum holds.
    """

    path: Path
    subjects: set[str] | None = None
    visits: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Found:
    """What a folder holds: the wanted columns, all tables with the key, and what cannot be read, with why."""

    sources: list[Source] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    unread: list[tuple[Path, str]] = field(default_factory=list)


def find_sources(folder: Path, key: str, wanted: Collection[str]) -> Found:
    """The columns that tables below a folder have of those that are wanted; and all tables with the key.

    A table is a text file, separated by tabs or commas, whose first line has the key. Where it has a column
    visitnum, rows are visits: those of the first are read, those of the second as columns with _p2, others
    not. UTF-8 and UTF-16 with their marks are read; what is no UTF-8 is taken for Latin-1.

    Args:
        folder: is looked through at any depth; links to folders are not followed.
        key: the column of subjects; case does not count.
        wanted: names as `Source.name` bears them.

    Raises:
        CohortError: a row has too few or too many cells, a column comes twice, or a subject has two unlike
            values.
    """
    found = Found()
    below = sorted(visible(folder))
    for path in below:
        if not path.exists() and path.suffix.lower() in SUFFIXES:
            found.unread.append((path, GONE.removeprefix("as ")))
        elif path.is_file() and _NO_TABLE.fullmatch(path.name):
            found.unread.append((path, "packed, or no text"))
        elif path.is_file() and path.suffix.lower() in SUFFIXES:
            head = _head(path)
            if key.lower() in (name.lower() for name in head):
                _read(path, head, key, wanted, found)
            elif key.lower() in re.split(r"\W+", ";".join(head).lower()):
                found.unread.append((path, "separated by neither tabs nor commas"))
    found.unread.extend((path, LINKED.removeprefix("as ")) for path in find_links(folder, below))
    return found


def _read(path: Path, head: list[str], key: str, wanted: Collection[str], into: Found) -> None:
    """Nothing; the table and its wanted columns are found."""
    lower = [name.lower() for name in head]
    visit = lower.index(_VISIT) if _VISIT in lower else None
    endings = _LATER if visit is not None else {"": ""}
    found = {
        (column, ending): Source(path, head[column], name)
        for column in range(len(head))
        for ending in endings.values()
        if (name := lower[column].removesuffix("_p1") + ending) in wanted
    }
    table = Table(path, set() if found else None)
    into.tables.append(table)
    into.sources.extend(found.values())
    if table.subjects is None:
        return
    used = {key.lower(), _VISIT} | {source.column.lower() for source in found.values()}
    if twice := [name for name in sorted(used) if lower.count(name) > 1]:
        raise CohortError(
            f"{path} has more than one column {', '.join(twice)}",
            "which of them is right cannot be told: rename the others, or export the table anew",
        )
    subject = lower.index(key.lower())
    for line, cells in _whole(path, len(head)):
        sid, seen = cells[subject].upper(), cells[visit].removesuffix(".0") if visit is not None else ""
        table.subjects.add(sid)
        table.visits.update([seen] if visit is not None else [])
        for (column, ending), source in found.items():
            if sid and ending == endings.get(seen):
                _add(source, sid, cells[column], line)


def _whole(path: Path, expected: int) -> Iterator[tuple[int, list[str]]]:
    """The records; all have as many cells as the header, or all the same number of empty ones more.

    A row that alone has an empty cell too many is one in which something was shifted.
    """
    lines: dict[int, int] = {}
    for line, cells in _records(path):
        lines.setdefault(len(cells), line)
        if len(cells) < expected or any(cells[expected:]):
            raise _unlike(path, line, expected, len(cells))
        if len(lines) > 1:
            raise _unlike(path, lines[max(lines)], expected, max(lines))
        yield line, cells


def _unlike(path: Path, line: int, expected: int, count: int) -> CohortError:
    return CohortError(
        f"{path}, line {line}: expected {expected} cells, but there are {count}",
        "is there a line break or a tab inside a cell? Mend the line, or export the table anew",
    )


def _add(source: Source, subject: str, text: str, line: int) -> None:
    """Nothing; the cell is kept."""
    before, at = source.cells.setdefault(subject, (text, line))
    if before != text:
        raise CohortError(
            f"{source.path}: subject {subject} has two values of {source.column}: {shown(before)} on line "
            f"{at}, {shown(text)} on line {line}",
            "leave one row a subject (and visit), or give another folder",
        )


def _head(path: Path) -> list[str]:
    """The names of the columns; none where the file holds no text."""
    with path.open("rb") as file:
        lines = _lines(file.read(_HEAD_BYTES))
    return next((_cells(line, "\t" in line) for line in lines if _says(line)), [])


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The line on which each record below the head starts, and its cells."""
    if path.stat().st_size > MOST_BYTES:
        raise CohortError(
            f"{path} has {path.stat().st_size >> 20} MB, which no table of phenotypes has",
            "move it elsewhere, or export the columns that docs/cohorts.md names",
        )
    lines = _lines(path.read_bytes())
    start = next(number for number, line in enumerate(lines) if _says(line)) + 1
    if "\t" in lines[start - 1]:  # quotes are letters there: one that never closes would swallow lines
        numbered = enumerate(lines[start:], start + 1)
        yield from ((number, _cells(line, True)) for number, line in numbered if line.strip())
        return
    reader = csv.reader(io.StringIO("\n".join(lines[start:])), strict=True)
    line = start + 1
    try:
        for cells in reader:
            if any(cells):
                yield line, [cell.strip() for cell in cells]
            line = start + 1 + reader.line_num
    except csv.Error as error:
        raise CohortError(f"{path}, line {line}: {error}", "mend the line, or export it anew") from error


def _says(line: str) -> bool:
    """Whether a line is neither empty nor a comment, as dbGaP writes them above its tables."""
    return bool(line.strip()) and not line.startswith("#")


def _cells(line: str, tabs: bool) -> list[str]:
    """The cells of one line."""
    if tabs:
        return [cell.strip().strip('"').strip() for cell in line.split("\t")]
    return [cell.strip() for cell in next(csv.reader([line]))]


def _lines(content: bytes) -> list[str]:
    """The lines of a text; bytes that are no UTF-8 are Latin-1, in which every byte is a letter."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16", errors="replace")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.removeprefix(b"\xef\xbb\xbf").decode("latin-1")
    return re.split(r"\r\n|\r|\n", text)
