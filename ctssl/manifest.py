"""scans.csv: one row a scan. Read when the DAG is built; no rule's input."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from glob import escape
from hashlib import sha256
from pathlib import Path

from ctssl.config.base import nearest
from ctssl.errors import ManifestError
from ctssl.log import say
from ctssl.table import read_table

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
MISSING = frozenset({"", "na", "nan"})
"""Labels, in any case, that mean: not known."""

_UID = re.compile(r"[0-9.]{1,64}")
OWN_COLUMNS = (
    *("scan", "subject", "image", "series_uid", "mask"),
    *("exclude", "exclude_reason", "keep", "keep_reason"),
)
_NO_PATHS = {
    re.compile(r"~[^/]*(/|$)"): "starts with ~, which is not expanded: write the whole path (or ./~...)",
    re.compile(r"\$\{?\w+\}?(/|$)"): "starts with a variable, which is not expanded: write the whole path",
    re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://"): "is an address on the net: fetch it, and name the file",
    re.compile(r"[A-Za-z]:\\|\\\\"): "is a path of Windows: write it as this machine sees it",
}
_MOST_NAME, _MOST_PATH = 255, 4000  # bytes; Linux
_MOST_REASON = 1000  # characters: a reason is part of a command, which may have 128 KiB
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

    def column(self, name: str, key: str = "evaluation.targets") -> dict[str, str]:
        """Scan to label as written; `key` of the config names the column.

        Raises:
            ManifestError: there is no such column.
        """
        if name not in self.label_columns:
            shown = [*self.label_columns[:30], *(["..."] if len(self.label_columns) > 30 else [])]
            raise ManifestError(
                f"{self.path} has no label column {name!r}; it has {', '.join(shown) or 'none'}"
                + nearest(name, self.label_columns),
                f"correct {key} or add the column",
            )
        return {row.scan: row.labels[name] for row in self.rows}

    def labelled(self, name: str) -> dict[str, str]:
        """Scan to label, of the scans that are not left out and whose label is known.

        Raises:
            ManifestError: there is no such column.
        """
        known = self.column(name)
        return {r.scan: known[r.scan] for r in self.rows if not r.exclude and is_known(known[r.scan])}

    @cached_property
    def _by_scan(self) -> dict[str, Row]:
        return {row.scan: row for row in self.rows}


def is_known(label: str) -> bool:
    """Whether a label says anything."""
    return label.strip().lower() not in MISSING


def read_manifest(path: Path, *, images: bool = True) -> Manifest:
    """The validated table.

    Args:
        path: of the table.
        images: every row must name an image. Without, the column may be absent (prepared stores, labels).

    Raises:
        ManifestError: unreadable, or faults of the table, all listed with their line numbers.
    """
    table = read_table(path, "scan", OWN_COLUMNS)
    needed = ("scan", "image") if images else ("scan",)
    faults = [
        f"the column {name!r} is missing" + nearest(name, table.columns, "there is {!r}")
        for name in needed
        if name not in table.columns
    ]
    faults += table.faults
    rows = []
    if not faults:
        seen: dict[str, int] = {}
        above = {str(folder) for folder in (path.absolute(), *path.absolute().parents)}
        for line, values, form in table.rows:
            row, found = _row(values, table.columns, path.parent, images)
            if row.image is not None and os.path.normpath(row.image.absolute()) in above:
                found.append(
                    "the image is the manifest, or a folder that holds it: put the manifest elsewhere"
                )
            faults += [f"line {line}: {fault}" for fault in form + found]
            twin = seen.setdefault(row.scan.lower(), line)
            if twin != line:
                faults.append(
                    f"line {line}: scan {row.scan!r} is already on line {twin} (case does not count)"
                )
            rows.append(row)
        if not rows:
            faults.append("there are no rows")
    if faults:
        shown = faults[:30] + ([f"and {len(faults) - 30} more"] if len(faults) > 30 else [])
        raise ManifestError(
            f"the manifest {path} has faults:\n  " + "\n  ".join(shown),
            f"columns are {', '.join(OWN_COLUMNS)} and any number of labels; "
            + ("scan and image must be there" if images else "scan must be there"),
        )
    for repair in table.repairs:
        say(f"{path}: {repair}")
    labels = tuple(c for c in table.columns if c not in OWN_COLUMNS)
    return Manifest(path, tuple(rows), labels)


def stamp(path: Path | None) -> str:
    """What Snakemake compares to see that an image was replaced: 'missing', or a digest.

    The digest is over names, sizes and modification times: of a file, of every file of a folder, or of a
    detached header (.mhd, .nhdr) and all files that share its stem.
    """
    if path is None:
        return "missing"
    state = sha256()
    try:
        files = _files(path)
        for file in files:
            about = file.stat()
            state.update(os.fsencode(f"{file.name} {about.st_size} {about.st_mtime_ns}\n"))
    except OSError:  # the job that reads the image says why
        return "missing"
    return state.hexdigest()[:16] if files else "missing"


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file())
    if path.suffix.lower() in (".mhd", ".nhdr"):
        return sorted(path.parent.glob(f"{escape(path.stem)}.*"))
    return [path]


def _row(values: dict[str, str], columns: Sequence[str], folder: Path, images: bool) -> tuple[Row, list[str]]:
    """A row, and what is wrong with its values."""
    get = values.get
    scan, subject = get("scan", ""), get("subject", "")
    faults = [
        f"{what} {_short(name)}: an id has 1 to 100 letters, digits, '_', '-' or '.', the first of them a "
        "letter or digit"
        for what, name in (("scan", scan), ("subject", subject or scan))
        if not ID.fullmatch(name) and (what == "scan" or subject)
    ]
    paths = {what: get(what, "") for what in ("image", "mask")}
    if images and not paths["image"]:
        faults.append("the image is missing")
    faults += [
        f"the {what} {_short(path)} {fault}" for what, path in paths.items() if (fault := _path_fault(path))
    ]
    flags = {name: get(name, "").lower() for name in ("exclude", "keep")}
    faults += [
        f"{name} is yes or no, not {_short(flag)}" for name, flag in flags.items() if flag not in _YES | _NO
    ]
    exclude, keep = (flag in _YES for flag in flags.values())
    faults += [
        f"{name} has more than {_MOST_REASON} characters"
        for name in ("exclude_reason", "keep_reason")
        if len(get(name, "")) > _MOST_REASON
    ]
    if keep and exclude:
        faults.append("keep and exclude cannot both be yes")
    if keep and not get("keep_reason"):
        faults.append("keep needs a keep_reason, which goes into the quality table")
    uid = get("series_uid", "")
    if uid and not _UID.fullmatch(uid):
        faults.append(f"series_uid {_short(uid)}: a DICOM uid has up to 64 digits and '.'")
    row = Row(
        scan=scan,
        subject=subject or scan,
        image=folder / paths["image"] if paths["image"] else None,
        mask=folder / paths["mask"] if paths["mask"] else None,
        exclude=exclude,
        exclude_reason=get("exclude_reason", ""),
        keep=keep,
        keep_reason=get("keep_reason", ""),
        series_uid=uid or None,
        labels={name: get(name, "") for name in columns if name not in OWN_COLUMNS},
    )
    return row, faults


def _short(text: str) -> str:
    return repr(text if len(text) <= 120 else text[:100] + "...")


def _path_fault(path: str) -> str:
    """Why this can be no path of a file here; empty when it can."""
    names = path.split("/") if len(path) > _MOST_NAME // 4 else []  # a letter has up to 4 bytes
    if len(path) > _MOST_PATH or any(len(name.encode()) > _MOST_NAME for name in names):
        return f"is longer than file systems allow ({_MOST_NAME} bytes between two '/')"
    return next((words for kind, words in _NO_PATHS.items() if kind.match(path)), "")
