"""Any table that names images: those columns of it that are asked for become a study."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ctssl.cohorts.folder import CONFIG, NAMED, ids, numbers
from ctssl.cohorts.missing import MISSING, Missing, find_signs, read_missing
from ctssl.cohorts.written import Row, check_free, listed, write_files
from ctssl.config.base import nearest
from ctssl.errors import CohortError
from ctssl.manifest import ID, OWN_COLUMNS, is_known
from ctssl.table import Table, read_table

_SHOWN = 10


@dataclass(frozen=True)
class Columns:
    """Which column of the table is what.

    Attributes:
        image: paths; relative ones start at the table's folder.
        subject: ids of people, in every row; "": every scan is a subject.
        scan: ids of scans; "": from the names of the files.
        mask: paths of lung masks, or "".
        labels: column of scans.csv -> column of the table.
    """

    image: str
    subject: str
    scan: str
    mask: str
    labels: Mapping[str, str]

    @property
    def used(self) -> list[str]:
        """All that are read."""
        return [c for c in (self.image, self.subject, self.scan, self.mask, *self.labels.values()) if c]


def write_listed(
    path: Path, columns: Columns, to: Path, *, numbered: bool = False, missing: Collection[str] = ()
) -> str:
    """What was written and what to run next; writes scans.csv and config.yaml into `to`.

    Args:
        path: of a csv, with commas, semicolons or tabs.
        columns: which column is what; all others are left behind.
        to: where both files go.
        numbered: ids are scan0001 and so on, and tell nothing of paths.
        missing: words, in any case, for a label that is not known, or COLUMN=WORD for one label; besides
            those of scans.csv.

    Raises:
        ManifestError: a file would be overwritten, or the table cannot be read.
        CohortError: a column is missing, an id is unsafe, a scan or an image comes twice, an image or a
            person is not named, a label is a sentinel.
    """
    check_free(to)
    table = read_table(path, columns.image, kind="table")
    faults = [
        f"the column {name!r} is missing{nearest(name, table.columns, 'there is {!r}')}"
        for name in columns.used
        if name not in table.columns
    ]
    faults += [f"{name!r} is no label in scans.csv" for name in columns.labels if name.lower() in OWN_COLUMNS]
    faults += table.faults
    _refuse(path, faults)
    words = read_missing(missing, list(columns.labels))
    folder = path.absolute().parent
    faults = _faults(table, columns, words, folder)
    _refuse(path, faults or ["there are no rows"] * (not table.rows))
    images = [folder / cells[columns.image] for _, cells, _ in table.rows]
    names = numbers(len(images)) if numbered else ids(images, Path("/"))
    rows: list[Row] = []
    for name, image, (_, cells, _) in zip(names, images, table.rows, strict=True):
        scan = cells[columns.scan] if columns.scan else name
        mask = cells[columns.mask] if columns.mask else ""
        subject = cells[columns.subject] if columns.subject else scan
        labels = {label: _label(words, label, cells[source]) for label, source in columns.labels.items()}
        rows.append(
            {
                "scan": scan,
                "subject": subject,
                "image": image,
                "mask": folder / mask if mask else "",
                **labels,
            }
        )
    written, command = write_files(to, tuple(columns.labels), rows, CONFIG)
    absent = [str(image) for image in images if not image.exists()]
    said = [f"{len(absent)} images are not there, as {absent[0]}"] if absent else []
    said += words.said()
    behind = [name for name in table.columns if name not in columns.used]
    said += [f"left behind: {', '.join(behind[:_SHOWN])}{', ...' * (len(behind) > _SHOWN)}"] if behind else []
    return (
        "\n  ".join([f"{len(rows)} scans are in {written}", *said])
        + ("" if numbered or columns.scan else f"\n{NAMED}")
        + f"\nName the targets in config.yaml there, then run:\n  {command}"
    )


def _faults(table: Table, columns: Columns, words: Missing, folder: Path) -> list[str]:
    """What is wrong with the rows, in their order."""
    signs = {}
    for label, source in columns.labels.items():
        texts = (cells.get(source, "") for _, cells, _ in table.rows)
        signs[label] = find_signs({text for text in texts if not words.match(label, text)})
    seen: dict[str, int] = {}
    faults = []
    for line, cells, form in table.rows:
        found = [*form, *_faults_of_names(cells, columns)]
        image, scan = cells.get(columns.image, ""), cells.get(columns.scan, "")
        file = os.path.normpath(folder / image) if image else ""
        for what, key in (("the image", file), (f"scan {scan}", scan.lower())):
            if key and (before := seen.setdefault(key, line)) != line:
                found.append(f"{what} is already on line {before}")
        for label, source in columns.labels.items():
            if (text := cells.get(source, "")) in signs[label]:
                said = f"leave the cell empty, or say so: --missing {label}={text}"
                found.append(f"{source} is {text!r}, an old sign for a missing label; {said}")
        faults += [f"line {line}: {fault}" for fault in found]
    return faults


def _faults_of_names(cells: Mapping[str, str], columns: Columns) -> list[str]:
    """What is wrong with a row's image and ids. Empty cells, or all that say NA, would be one person."""
    faults = [] if cells.get(columns.image) else ["the image is missing"]
    for column in dict.fromkeys(filter(None, (columns.subject, columns.scan))):
        name = cells.get(column, "")
        if column == columns.subject and name.lower() in MISSING:
            faults.append(
                f"{column} is {repr(name) if name else 'empty'}, so whose scan this is is not known; give an "
                "id that nobody else has"
            )
        elif not ID.fullmatch(name):
            faults.append(f"{column} {name[:100]!r}: an id has letters, digits, '_', '-' and '.' only")
    return faults


def _label(words: Missing, label: str, text: str) -> str:
    """A cell as it goes into scans.csv; empty where it is not known."""
    if given := words.match(label, text):
        words.removed[given] += 1
    return text if is_known(text) and not given else ""


def _refuse(path: Path, faults: list[str]) -> None:
    if faults:
        raise CohortError(
            f"{path} has faults:{listed(faults)}",
            "correct the table, or name other columns; `ctssl cohort table --help` lists what can be named",
        )
