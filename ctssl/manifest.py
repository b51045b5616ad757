"""scans.csv: one row a scan. Read when the DAG is built; no rule's input."""

import csv
import re
from dataclasses import dataclass, field
from functools import cached_property
from glob import escape
from hashlib import sha256
from pathlib import Path

from ctssl.errors import ManifestError

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_UID = re.compile(r"[0-9.]{1,64}")
OWN_COLUMNS = (
    *("scan", "subject", "image", "series_uid", "mask"),
    *("exclude", "exclude_reason", "keep", "keep_reason"),
)
_YES, _NO = {"1", "true", "yes"}, {"", "0", "false", "no"}


@dataclass(frozen=True)
class Row:
    """One scan of the manifest.

    Attributes:
        scan: id, unique.
        subject: id of the person; several scans may share it.
        image: file or DICOM folder; relative paths start at the manifest's folder. None only in a table
            that was read without images.
        mask: a lung mask of the user's own (1 right, 2 left), or None.
        exclude: the user left this scan out.
        exclude_reason: why.
        keep: the user wants this scan used, whatever quality says of it.
        keep_reason: why.
        series_uid: which series of a DICOM folder to read, or None.
        labels: every other column as written.
    """

    scan: str
    subject: str
    image: Path | None
    mask: Path | None = None
    exclude: bool = False
    exclude_reason: str = ""
    keep: bool = False
    keep_reason: str = ""
    series_uid: str | None = None
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """The table of scans, in the order of the file."""

    path: Path
    rows: tuple[Row, ...]
    label_columns: tuple[str, ...]

    def row(self, scan: str) -> Row:
        """The row of a scan."""
        return self._by_scan[scan]

    @property
    def scans(self) -> list[str]:
        """All scan ids, in the order of the file."""
        return [row.scan for row in self.rows]

    def column(self, name: str) -> dict[str, str]:
        """Scan to label as written.

        Raises:
            ManifestError: there is no such column.
        """
        if name not in self.label_columns:
            raise ManifestError(
                f"{self.path} has no label column {name!r}; it has {', '.join(self.label_columns) or 'none'}",
                "correct evaluation.targets or add the column",
            )
        return {row.scan: row.labels[name] for row in self.rows}

    @cached_property
    def _by_scan(self) -> dict[str, Row]:
        return {row.scan: row for row in self.rows}


def read_manifest(path: Path, *, images: bool = True) -> Manifest:
    """The validated table.

    Args:
        path: of the table.
        images: every row must name an image. Without, the column may be absent (prepared stores, labels).

    Raises:
        ManifestError: unreadable, or faults of the table, all listed with their line numbers.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            records = [(reader.line_num, record) for record in reader]
            columns = list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(
            f"the manifest {path} cannot be read: {error}",
            "`ctssl init FOLDER_OF_SCANS` writes one; a manifest is a UTF-8 csv file with commas",
        ) from error
    faults = _column_faults(columns, images)
    rows = []
    if not faults:
        seen: dict[str, int] = {}
        for line, record in records:
            row, found = _row(record, columns, path.parent, images)
            faults += [f"line {line}: {fault}" for fault in found]
            twin = seen.setdefault(row.scan.lower(), line)
            if twin != line:
                faults.append(
                    f"line {line}: scan {row.scan!r} is already on line {twin} (case does not count)"
                )
            rows.append(row)
        if not records:
            faults.append("there are no rows")
    if faults:
        shown = faults[:30] + ([f"and {len(faults) - 30} more"] if len(faults) > 30 else [])
        raise ManifestError(
            f"the manifest {path} has faults:\n  " + "\n  ".join(shown),
            f"columns are {', '.join(OWN_COLUMNS)} and any number of labels; "
            + ("scan and image must be there" if images else "scan must be there"),
        )
    labels = tuple(c for c in columns if c not in OWN_COLUMNS)
    return Manifest(path, tuple(rows), labels)


def stamp(path: Path | None) -> str:
    """What Snakemake compares to see that an image was replaced: 'missing', or a digest.

    The digest is over names, sizes and modification times: of a file, of every file of a folder, or of a
    detached header (.mhd, .nhdr) and all files that share its stem.
    """
    if path is None:
        return "missing"
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
    elif path.suffix.lower() in (".mhd", ".nhdr"):
        files = sorted(path.parent.glob(f"{escape(path.stem)}.*"))
    else:
        files = [path]
    state = sha256()
    try:
        for file in files:
            about = file.stat()
            state.update(f"{file.name} {about.st_size} {about.st_mtime_ns}\n".encode())
    except OSError:
        return "missing"
    return state.hexdigest()[:16] if files else "missing"


def _column_faults(columns: list[str], images: bool) -> list[str]:
    needed = ("scan", "image") if images else ("scan",)
    faults = [f"the column {name!r} is missing" for name in needed if name not in columns]
    faults += [
        f"the column {name!r} comes twice" for name in sorted({c for c in columns if columns.count(c) > 1})
    ]
    return faults


def _row(
    record: dict[str, str | None], columns: list[str], folder: Path, images: bool
) -> tuple[Row, list[str]]:
    faults = []
    if None in record or None in record.values():
        faults.append(f"expected {len(columns)} fields")
    values = {name: (record.get(name) or "").strip() for name in columns}
    scan, subject = values["scan"], values.get("subject") or values["scan"]
    for what, name in (("scan", scan), ("subject", subject)):
        if not ID.fullmatch(name):
            faults.append(f"{what} {name!r}: an id has 1 to 100 letters, digits, '_', '-' or '.'")
    image = values.get("image", "")
    if images and not image:
        faults.append("the image is missing")
    flags = {name: values.get(name, "").lower() for name in ("exclude", "keep")}
    faults += [f"{name} is yes or no, not {flag!r}" for name, flag in flags.items() if flag not in _YES | _NO]
    exclude, keep = (flag in _YES for flag in flags.values())
    if keep and exclude:
        faults.append("keep and exclude cannot both be yes")
    if keep and not values.get("keep_reason"):
        faults.append("keep needs a keep_reason, which goes into the quality table")
    uid = values.get("series_uid", "")
    if uid and not _UID.fullmatch(uid):
        faults.append(f"series_uid {uid!r}: a DICOM uid has up to 64 digits and '.'")
    mask = values.get("mask", "")
    row = Row(
        scan=scan,
        subject=subject,
        image=folder / image if image else None,
        mask=folder / mask if mask else None,
        exclude=exclude,
        exclude_reason=values.get("exclude_reason", ""),
        keep=keep,
        keep_reason=values.get("keep_reason", ""),
        series_uid=uid or None,
        labels={name: values[name] for name in columns if name not in OWN_COLUMNS},
    )
    return row, faults
