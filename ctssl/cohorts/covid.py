"""A collection of COVID-19 CTs from several public sources: a folder a source, and a table of labels."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ctssl.cohorts.folder import NAMED, find_images, ids, numbers
from ctssl.cohorts.missing import MISSING
from ctssl.cohorts.written import Row, check_free, listed, protocol, write_files
from ctssl.errors import CohortError
from ctssl.manifest import ID
from ctssl.table import read_table

CLASSES = ("negative", "positive")
LABELS = ("source", "covid")
_LIDC = re.compile(r"LIDC-IDRI-\d{4}")
_FORM = "columns are path, covid (positive or negative) and, if you like, subject; see docs/cohorts.md"


def write_covid(folder: Path, labels: Path, to: Path, *, numbered: bool = False) -> str:
    """What was written and what to run next; writes scans.csv and config.yaml into `to`.

    Args:
        folder: each folder in it is a source, named so in the column `source`, with scans at any depth.
        labels: a csv with columns path (below the folder: of a scan, or of a folder for all scans in it; the
            longest that fits counts), covid, and perhaps subject (of a scan).
        to: where both files go.
        numbered: ids are scan0001 and so on, and tell nothing of paths.

    Raises:
        ManifestError: a file would be overwritten, or the table cannot be read.
        CohortError: scans without a label or a source, lines without a scan, an unknown class.
    """
    check_free(to)
    folder = folder.absolute()
    skipped: dict[str, list[Path]] = {}
    images = find_images(folder, skipped)
    lines = _read(labels)
    used: set[PurePosixPath] = set()
    rows: list[Row] = []
    faults: list[str] = []
    names = numbers(len(images)) if numbered else ids(images, folder)
    for scan, image in zip(names, images, strict=True):
        below = PurePosixPath(image.relative_to(folder))
        line = next((path for path in (below, *below.parents) if path in lines), None)
        if len(below.parts) < 2:
            faults.append(f"{below}: lies in no folder, so its source is not known")
        elif line is None:
            faults.append(f"{below}: has no label")
        else:
            used.add(line)
            covid, subject = lines[line]
            rows.append(
                {
                    **{"scan": scan, "image": image, "source": below.parts[0], "covid": covid},
                    "subject": _subject(below, subject, scan),
                }
            )
    scans = [PurePosixPath(image.relative_to(folder)) for image in images]
    faults += [f"{path}: {_unused(path, scans, labels.name)}" for path in lines if path not in used]
    said = [f"passed over, {why}: {len(paths)}, as {paths[0]}" for why, paths in skipped.items()]
    if faults or not rows:
        raise CohortError(
            f"{folder} and {labels} do not fit:{listed(faults or ['there are no scans'])}"
            + "".join(f"\n  {line}" for line in said),
            f"a line for each scan, or for a folder of them; {_FORM}",
        )
    table, command = write_files(to, LABELS, rows, protocol("covid19-ct"))
    counts = Counter((str(row["source"]), str(row["covid"])) for row in rows)
    said += [f"{source}: {counts[source, covid]} {covid}" for source, covid in sorted(counts)]
    if len({source for source, _ in counts}) == len(counts):
        said.append("every source has one class: who can tell the sources apart can tell the classes")
    return (
        "\n  ".join([f"{len(rows)} scans are in {table}", *said])
        + ("" if numbered else f"\n{NAMED}")
        + f"\nName the weights in config.yaml there, then run:\n  {command}"
    )


def _read(path: Path) -> dict[PurePosixPath, tuple[str, str]]:
    """Path -> class and subject, of all lines."""
    table = read_table(path, "path", ("path", "covid", "subject"), kind="table")
    faults = [f"the column {name!r} is missing" for name in ("path", "covid") if name not in table.columns]
    faults += table.faults
    lines: dict[PurePosixPath, tuple[str, str]] = {}
    for line, values, form in () if faults else table.rows:
        found = list(form)
        name, covid, subject = (values.get(column, "") for column in ("path", "covid", "subject"))
        below = PurePosixPath(name)
        if not name or below.is_absolute() or ".." in below.parts:
            found.append(f"{name[:100]!r} is no path below the folder of the collection")
        if covid.lower() not in CLASSES:
            found.append(f"the class is {' or '.join(CLASSES)}, not {covid[:40]!r}")
        if subject and not ID.fullmatch(subject):
            found.append(f"subject {subject[:100]!r}: letters, digits, '_', '-' and '.' only")
        elif subject and subject.lower() in MISSING:
            found.append(f"subject {subject!r} is nobody's id: leave the cell empty where it is not known")
        if below in lines:
            found.append(f"{name[:100]!r} comes twice")
        lines[below] = covid.lower(), subject
        faults += [f"line {line}: {fault}" for fault in found]
    if faults:
        raise CohortError(f"{path} has faults:{listed(faults)}", _FORM)
    return lines


def _unused(path: PurePosixPath, scans: Sequence[PurePosixPath], name: str) -> str:
    """Why no scan goes by a line."""
    if any(scan.is_relative_to(path) for scan in scans):
        return f"every scan in it has a longer path in {name}, so this line says nothing; take it out"
    return f"is in {name}, but there is no scan"


def _subject(below: PurePosixPath, given: str, scan: str) -> str:
    """As given; else the person's number in LIDC-IDRI, else the scan's id."""
    of_lidc = next((part for part in below.parts if _LIDC.fullmatch(part)), "")
    return given or of_lidc or scan
