"""A table that a person made, as text: csv in the few forms that spreadsheets write.

What is certain is repaired, and said: a byte order mark, UTF-16 that announces itself, semicolons or tabs
where the header line has them. All else is a fault with its line.
"""

import csv
import io
import re
import stat
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ctssl.errors import ManifestError

MOST_BYTES = 1 << 28
"""A larger file is refused unread: 100,000 rows of 20 columns have 20 MB."""

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_NO_TEXT = {
    b"PK\x03\x04": "an Excel workbook or another zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x1f\x8b": "a gzip archive",
}
_END_OF_LINE = re.compile(r"\r\n|\r|\n")
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""What no cell may hold: line breaks and control characters, but for tabs, which are harmless."""

_FORM = "a csv file in UTF-8 with commas (in Excel: save as 'CSV UTF-8')"
_ADVICE = {
    "manifest": f"`ctssl init FOLDER_OF_SCANS` writes one; a manifest is {_FORM}",
    "table": f"a table is {_FORM}; semicolons and tabs are read, too",
}
"""What a file is called -> what to do when it cannot be read."""


class _UnreadableError(Exception):
    """Why a file is no table."""


@dataclass(frozen=True)
class Table:
    """The cells of a table, without blanks around them.

    Attributes:
        columns: names, in the order of the file.
        rows: number of the line, column -> cell, and what is wrong with the row's form. Empty lines are
            not among them.
        faults: of the columns.
        repairs: one sentence for each thing that was mended.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str], list[str]], ...]
    faults: tuple[str, ...]
    repairs: tuple[str, ...]


def read_table(path: Path, key: str, own: Collection[str] = (), *, kind: str = "manifest") -> Table:
    """The table in a csv file.

    Args:
        path: of the file.
        key: the column that every such table has: what separates it from others separates all.
        own: columns whose names may be written in any case.
        kind: what errors call it, "manifest" or "table".

    Raises:
        ManifestError: no file, no text, or no csv.
    """
    try:
        text, repairs = _text(_content(path))
        separator = _separator(text, key)
        records = _records(text, separator)
    except _UnreadableError as error:
        raise ManifestError(f"the {kind} {path} cannot be read: {error}", _ADVICE[kind]) from error
    if separator != ",":
        repairs.append(f"its columns are separated by {_SEPARATORS[separator]}, as its header line says")
    if not records:
        return Table((), (), (), ())
    names = [_name(name, own) for name in records[0][1]]
    if not names[0] and any(cells[0] for _, cells in records[1:]):
        repairs.append("its first column has no name (an index?) and is passed over")
    columns = [name for name in names if name]
    twice = sorted(name for name, times in Counter(columns).items() if times > 1)
    faults = [f"the column {name[:100]!r} comes twice" for name in twice]
    strange = [] if separator == "," else [n for n in columns if any(s in n for s in _SEPARATORS)]
    faults += [
        f"the header line separates by {_SEPARATORS[separator]}, but there is {n[:100]!r}"
        for n in strange[:3]
    ]
    # Some programs end every line with a separator. One row that does holds an unquoted comma more likely.
    lengths = {len(cells) for _, cells in records[1:]}
    most = max(lengths) if len(lengths) == 1 else len(names)
    rows = (
        (line, {n: cell for n, cell in zip(names, cells, strict=False) if n}, _row_faults(cells, names, most))
        for line, cells in records[1:]
    )
    return Table(tuple(columns), tuple(rows), tuple(faults), tuple(repairs))


def _content(path: Path) -> bytes:
    try:
        about = path.stat()  # a pipe would be waited for, and /dev/zero has no end
        if not stat.S_ISREG(about.st_mode):
            raise _UnreadableError("it is no file")
        if about.st_size > MOST_BYTES:
            raise _UnreadableError(f"it has {about.st_size >> 20} MB, which no table of scans has")
        return path.read_bytes()
    except OSError as error:
        raise _UnreadableError(error.strerror) from error


def _text(content: bytes) -> tuple[str, list[str]]:
    """The text of a file, and what was mended."""
    for start, what in _NO_TEXT.items():
        if content.startswith(start):
            raise _UnreadableError(f"it is {what}")
    wide = content.startswith(_UTF16)
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n|\r|\n", content[: error.start])) + 1
        raise _UnreadableError(f"line {line} is not UTF-{16 if wide else 8}") from error
    if "\0" in text:
        line = len(_END_OF_LINE.findall(text[: text.index("\0")])) + 1
        raise _UnreadableError(f"line {line} holds a NUL byte")
    return text, ["it is UTF-16, as its first bytes say"] if wide else []


def _separator(text: str, key: str) -> str:
    """What stands around the key in the first line that is not empty; a comma when nothing does."""
    head = next((line for line in _END_OF_LINE.split(text) if line.strip()), "")
    for separator in _SEPARATORS:
        try:
            names = next(csv.reader([head], delimiter=separator, strict=True))
        except csv.Error:
            continue
        if key.lower() in (name.strip().lower() for name in names):
            return separator
    return ","


def _records(text: str, separator: str) -> list[tuple[int, list[str]]]:
    """The line on which each record starts, and its cells; from the first that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    records: list[tuple[int, list[str]]] = []
    line = 1
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if any(cells):
                records.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        unclosed = "unexpected end" in str(error)
        what = 'a quote (") that opens here is never closed' if unclosed else str(error)
        raise _UnreadableError(f"line {line}: {what}") from error
    return records


def _name(name: str, own: Collection[str]) -> str:
    return name.lower() if name.lower() in own else name


def _row_faults(cells: list[str], names: list[str], most: int) -> list[str]:
    """What is wrong with the cells of a row, which may be `most` when those without a name are empty."""
    if not len(names) <= len(cells) <= most or any(cells[len(names) :]):
        return [f"expected {len(names)} fields, but there are {len(cells)}"]
    faults = ["the header line again: are these two tables in one?"] if cells[: len(names)] == names else []
    for number, (cell, name) in enumerate(zip(cells, names, strict=False), 1):
        if cell and not name and number > 1:
            faults.append(f"column {number} has no name, but a value")
        if CONTROL.search(cell):
            faults.append(f"the {name[:100]} holds a line break or control character: is a quote not closed?")
    return faults
