"""What settings say of the user's files: their paths, and stamps or digests that show a change."""

from hashlib import sha256
from pathlib import Path
from typing import Any

from ctssl.errors import ConfigError
from ctssl.manifest import Manifest, Row, stamp


def images(row: Row) -> dict[str, Any]:
    """Image and mask of a scan with their stamps; those of a scan that is left out are not looked at."""
    assert row.image is not None, "a table that was read without images has nothing to prepare"
    return {
        "image": str(row.image),
        "image_stamp": "" if row.exclude else stamp(row.image),
        "series_uid": row.series_uid,
        "mask_image": str(row.mask) if row.mask else None,
        "mask_stamp": stamp(row.mask) if row.mask and not row.exclude else None,
    }


def atlas_scan(manifest: Manifest, scan: str) -> dict[str, Any]:
    """Id, image and mask of a scan that an atlas is made from.

    Raises:
        ConfigError: there is no such scan, it is excluded, or its files are not there.
    """
    if scan not in manifest.scans:
        raise ConfigError(
            f"atlas.scans names {scan!r}, which is not in {manifest.path}", "give ids of its column scan"
        )
    row = manifest.row(scan)
    if row.exclude:
        raise ConfigError(
            f"atlas.scans names {scan}, which the manifest excludes: {row.exclude_reason or 'no reason'}",
            "choose another scan for the atlas, or clear its cell in the column exclude",
        )
    files = images(row)
    for what in ("image", "mask"):
        if files[f"{what}_stamp"] == "missing":
            path = row.image if what == "image" else row.mask
            raise ConfigError(
                f"atlas.scans names {scan}, whose {what} {path} does not exist",
                f"correct the path in {manifest.path}, where relative ones start at its folder, or choose "
                "another scan for the atlas",
            )
    return {"scan": scan, **files}


def contents(key: str, path: Path) -> str:
    """What changes when the file does: sha256 of mask and landmarks, which a fresh clone leaves alone.

    A stamp of the CT, which is large, and of images of several files.

    Raises:
        ConfigError: it is not there, or no file.
    """
    found = stamp(path)
    if found == "missing" or not (path.is_file() or path.is_dir()):
        what = "does not exist" if found == "missing" else "is no file"  # a pipe would be waited for
        said = f"atlas.{key} is {path}, which {what}"
        raise ConfigError(said, "relative paths start at the working directory")
    if key == "ct" or path.is_dir() or path.suffix.lower() in (".mhd", ".nhdr"):
        return found
    return sha256(path.read_bytes()).hexdigest()
