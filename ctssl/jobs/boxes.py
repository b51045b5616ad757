"""The boxes of whole lungs: the job that writes one, and finding those of a cohort again."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctssl.errors import ScanError, StoreError
from ctssl.jobs.scan import MASK, VOLUME, ScanJob
from ctssl.jobs.status import Status
from ctssl.log import tell

if TYPE_CHECKING:
    from ctssl.store.boxes import Box

FOLDER = "boxes"
"""Beside the folder of the stores."""


def box(job: ScanJob, volume: Path) -> None:
    """Write the box of a scan's lungs."""
    job.run(lambda settings: _box(job, settings, volume), before=volume)


def _box(job: ScanJob, settings: dict[str, Any], volume: Path) -> dict[str, Any]:
    from ctssl import __version__
    from ctssl.prepare.atlas import read_atlas
    from ctssl.prepare.images import read_array
    from ctssl.store.boxes import write_box

    atlas = read_atlas(job.atlas)
    hu, grid = read_array(volume / VOLUME)
    mask, _ = read_array(volume / MASK)
    card = {
        "scan": job.scan,
        "atlas": atlas.id,
        "spacing_mm": atlas.spacing_mm,
        "axes": atlas.axes,
        "origin_mm": list(grid.origin_mm),
        "ctssl": __version__,
        "recipe": settings["recipe"],
    }
    return {"digest": write_box(job.out, hu, mask, card)["digest"]}


def folder_of(scans: Path, row: dict[str, str]) -> Path:
    """Where the box of a row of the cohort's table lies: beside the folder of the stores."""
    store = Path(row["path"])
    return scans.parent / store.parent.parent / FOLDER / store.name


def with_boxes(scans: Path, rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The rows of the cohort's table whose scan has a box; who has none is told, and why.

    Raises:
        StoreError: nobody made a box of a scan; it names the scan.
    """
    kept = []
    for row in rows:
        status = _status(folder_of(scans, row), row["scan"])
        if status.ok:
            kept.append(row)
        else:
            tell(f"{row['scan']} has no box of its lungs and is left out: {status.reason}")
    return kept


def open_boxes(scans: Path, rows: Sequence[dict[str, str]], atlas: str) -> "dict[str, Box]":
    """Scan -> its box, of rows that have one.

    Args:
        scans: the cohort's table.
        rows: of it.
        atlas: refuse boxes made with an atlas of another id.

    Raises:
        StoreError: a box is damaged or of another scan or atlas; it names the scan.
    """
    from ctssl.store.boxes import open_box

    return {row["scan"]: open_box(folder_of(scans, row), scan=row["scan"], atlas=atlas) for row in rows}


def _status(folder: Path, scan: str) -> Status:
    try:
        return Status.read(folder, scan)
    except ScanError as error:
        raise StoreError(
            f"the box of scan {scan} is not there: {error.message}",
            "run the workflow, whose rule box makes it; of a folder that is `prepared`, put it into place "
            "(`ctssl phantom FOLDER --oracle --boxes` makes them)",
        ) from error
