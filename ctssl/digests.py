"""Short digests of what a job takes from the manifest, so that its settings change when that does."""

from collections.abc import Iterable, Mapping
from hashlib import sha256

from ctssl.manifest import Manifest

VISIT = "visit"
"""The column of the manifest that says which scan of a subject came first."""


def digest(lines: Iterable[str]) -> str:
    """A short digest of lines of text."""
    return sha256("\n".join(lines).encode()).hexdigest()[:16]


def label_digest(labels: Mapping[str, str]) -> str:
    """A short digest of one label column, scan to label."""
    return digest(f"{scan}={label}" for scan, label in labels.items())


def labelled_digest(manifest: Manifest, column: str) -> str:
    """A short digest of the labels that there are, and of whose they are."""
    labels = manifest.labelled(column)
    return digest(f"{scan}={label} {manifest.row(scan).subject}" for scan, label in labels.items())


def visit_lines(manifest: Manifest, column: str) -> list[str]:
    """One line for each scan with a label in a column, in their order: its visit, where that is known."""
    return [f"{scan} {manifest.row(scan).labels.get(VISIT, '')}" for scan in manifest.labelled(column)]


def members(manifest: Manifest) -> list[str]:
    """One line a scan: which subject it is of."""
    return [f"{row.scan} {row.subject}" for row in manifest.rows]


def kept(manifest: Manifest) -> list[str]:
    """One line for each scan that is kept whatever quality says of it: why."""
    return [f"{row.scan} {row.keep_reason}" for row in manifest.rows if row.keep]
