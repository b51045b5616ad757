"""Stores that were made elsewhere: by the phantom's oracle, or at a site that shares stores and no images.

Such a folder holds `atlas/atlas.json` and `stores/{scan}/`. Nothing is written into it, so it may be
read-only; it is no rule's input, so that a copy with other times reruns nothing.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctssl.config import Config
from ctssl.errors import ConfigError, ScanError, StoreError
from ctssl.jobs.status import FILE, STAGES, Status
from ctssl.log import Progress, tell
from ctssl.manifest import Row
from ctssl.settings import prepared_atlas

if TYPE_CHECKING:
    from ctssl.prepare.atlas import Atlas
    from ctssl.store.reader import Store

STAGE = "store"
"""Where a scan is lost whose store is not there."""

_DELIVER = "put the whole store into place, then run the same command: it is noticed"


def check(config: Config) -> None:
    """Nothing, when a study can take its stores from elsewhere, or makes its own.

    Raises:
        ConfigError: there is no atlas, or the results folder holds stores that would be mistaken for them.
    """
    if config.prepared is None:
        return
    prepared_atlas(config.prepared)
    if any(run.options.boxes for run in config.runs) and not (config.prepared / "boxes").is_dir():
        raise ConfigError(
            f"a run cuts its samples from boxes of lungs, but {config.prepared} has no folder boxes/",
            "ask for boxes where it was made: `ctssl phantom FOLDER --oracle --boxes` makes them",
        )
    if (config.results / "stores").exists():
        raise ConfigError(
            f"the stores should come from {config.prepared}, but {config.results} holds stores of its own",
            "name another `results` folder",
        )


def stores_from(folder: Path, results: Path) -> Path:
    """The folder of the stores as the results' table names it: from the table on, unless it is absolute.

    So a study that is moved as a whole finds its stores.
    """
    stores = folder / "stores"
    return stores if folder.is_absolute() else Path(os.path.relpath(stores.resolve(), results.resolve()))


def outcomes(folder: Path, rows: Sequence[Row]) -> list[Status]:
    """One status a row, in order: whether its store can be used, why not, and what was measured.

    Raises:
        StoreError: all stores were made with another atlas than that of the folder.
    """
    from ctssl.prepare.atlas import read_atlas

    chest = read_atlas(folder / "atlas")
    atlas, size = chest.id, f"{len(chest.landmarks_mm)} landmarks of {chest.patch_voxels} voxels"
    tell(f"stores are taken from {folder}: atlas {atlas}, {size} at {chest.spacing_mm:g} mm")
    found, others = [], set()
    with Progress("prepared stores", len(rows), "scans") as progress:
        for row in rows:
            try:
                status = _inspect(folder, row, chest)
                if status.ok and status.numbers["atlas"] != atlas:
                    others.add(status.numbers["atlas"])
                    raise ScanError(f"its store is of atlas {status.numbers['atlas']}, not {atlas}", _DELIVER)
            except ScanError as error:
                status = Status.excluded(row.scan, STAGE, error)
            found.append(status)
            progress.advance()
    if others and not any(status.ok for status in found):
        raise StoreError(
            f"the stores in {folder} are of atlas {', '.join(sorted(others))}, but atlas/ is atlas {atlas}",
            "take atlas/ and stores/ from the same place",
        )
    return found


def _inspect(folder: Path, row: Row, chest: "Atlas") -> Status:
    """The outcome of one scan, with the id of its store's atlas among the numbers.

    Every value of the store is read: here nobody else knows what was written.
    """
    from ctssl.store.reader import open_store

    if row.exclude:
        raise ScanError(f"the manifest excludes it: {row.exclude_reason or 'no reason given'}")
    path, name = folder / "stores" / row.scan, f"stores/{row.scan}"
    if not path.is_dir():
        raise ScanError(f"{name} {'is no folder' if path.exists() else 'does not exist'}", _DELIVER)
    numbers: dict[str, Any] = {}
    for stage in STAGES:  # a site may share what it measured, too
        if (folder / stage / row.scan / FILE).exists():
            status = _status(folder / stage / row.scan)
            if status.scan != row.scan:
                raise ScanError(f"{stage}/{row.scan} holds the store of scan {status.scan}", _DELIVER)
            if not status.ok:
                return status
            numbers |= status.numbers
    try:
        store = open_store(path.resolve())
        if store.card["atlas"] == chest.id:
            _check_size(store, chest)
            store.verify()
    except StoreError as error:
        reason = error.message.replace(str(path.resolve()), name)  # reports name no folders of the machine
        raise ScanError(reason.split(": ")[0], _DELIVER) from error
    if store.scan != row.scan:
        raise ScanError(f"{name} holds the store of scan {store.scan}", _DELIVER)
    numbers |= {"landmarks": len(store.valid), "valid": int(store.valid.sum()), "edges": len(store.edges)}
    numbers |= {
        **store.card.get("measures", {}),
        "digest": store.card["digest"],
        "atlas": store.card["atlas"],
    }
    return Status(row.scan, True, STAGE, numbers=numbers)


def _check_size(store: "Store", chest: "Atlas") -> None:
    for what, found, wanted in (
        ("landmarks", len(store.valid), len(chest.landmarks_mm)),
        ("voxels along a patch", store.patch_voxels, chest.patch_voxels),
    ):
        if found != wanted:
            raise ScanError(f"its store has {found} {what}, not {wanted} as the atlas", _DELIVER)


def _status(folder: Path) -> Status:
    try:
        return Status.read(folder)
    except ScanError as error:
        raise ScanError(error.message, _DELIVER) from error
