"""One good chest, which the cases write and spoil; and what a case is."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from prepare.chest import grid_of, scan
from prepare.dicom import write_slices
from prepare.files import write_itk, write_nifti

from ctssl.prepare.geometry import Place

SPACING_MM = 5.0


@dataclass(frozen=True)
class Row:
    """What the table of scans says of a scan."""

    image: Path
    mask: Path | None = None
    series_uid: str | None = None


@dataclass(frozen=True)
class Case:
    """One input and what must come of it: an error, a repair, or the chest as it is, with the reason.

    Attributes:
        name: what a user would call it.
        make: writes it below a folder, and gives the image's path or the whole row.
        error: pattern of the words with which the scan is excluded.
        repair: pattern of what is recorded about a scan that was mended, or of a doubt about it.
        why: reason to read it as it is.
        hu: how far the values that come out may lie from the good chest's, in HU, for `share` of the voxels.
        share: of voxels; fewer where resampling blurs edges.
        dice: how well the lungs must fit those of the good chest; 0: they are others.
        sides: labels of the lungs that must be there.
        slow: in `make test-all` only.
    """

    name: str
    make: Callable[[Path], Path | Row]
    error: str = ""
    repair: str = ""
    why: str = ""
    hu: float = 0.6  # values are rounded once
    share: float = 0.99
    dice: float = 0.95
    sides: str = "12"
    slow: bool = False

    def __post_init__(self) -> None:
        assert bool(self.error) + bool(self.repair) + bool(self.why) == 1, self.name


def one_quick(cases: Iterable[Case]) -> list[Case]:
    """Cases that differ in format or number alone: all but the first are slow."""
    first, *others = cases
    return [first, *(replace(case, slow=True) for case in others)]


@cache
def hu() -> np.ndarray:
    """(z, y, x) int16: a chest of 5 mm, LPS."""
    return scan(1, 0, SPACING_MM).hu


@cache
def lungs() -> np.ndarray:
    """(z, y, x) uint8: 1 right, 2 left."""
    return scan(1, 0, SPACING_MM).lungs


@cache
def place() -> Place:
    """Of the voxels of `hu`."""
    return Place(np.array(grid_of(scan(1, 0, SPACING_MM)).origin_mm), np.eye(3) * SPACING_MM)


def size() -> tuple[int, int, int]:
    """Voxels along i, j, k."""
    k, j, i = hu().shape
    return i, j, k


def nifti(path: Path, **header: Any) -> Path:
    """The good chest."""
    return write_nifti(path, hu(), place(), **header)


def itk(path: Path, *, packed: bool = True) -> Path:
    """The good chest, in the format of the path's ending."""
    return write_itk(path, hu(), place(), packed=packed)


def any_format(path: Path, values: np.ndarray | None = None, at: Place | None = None) -> Path:
    """The good chest, or other values elsewhere; NIfTI or another format by the path's ending."""
    write = write_nifti if ".nii" in path.name.lower() else write_itk
    return write(path, hu() if values is None else values, at or place())


def dicom(folder: Path, values: np.ndarray | None = None, at: Place | None = None, **options: Any) -> Path:
    """The good chest, or other values elsewhere, as DICOM slices."""
    folder.parent.mkdir(exist_ok=True)
    write_slices(folder, hu() if values is None else values, at or place(), **options)
    return folder


def patched(path: Path, offset: int, values: np.ndarray) -> Path:
    """The same file with other bytes from `offset` on."""
    raw = bytearray(path.read_bytes())
    raw[offset : offset + values.nbytes] = values.tobytes()
    path.write_bytes(raw)
    return path


def replaced(path: Path, old: bytes, new: bytes) -> Path:
    """The same file with other words in its header."""
    raw = path.read_bytes()
    assert old in raw, f"{path.name} does not hold {old!r}"
    path.write_bytes(raw.replace(old, new, 1))
    return path


def write_atlas(folder: Path) -> Path:
    """What the stage `volume` needs of an atlas: axes, spacing and the size of a patch."""
    folder.mkdir()
    card = {"id": "none", "axes": "LPS", "spacing_mm": SPACING_MM, "pitch_mm": 60.0, "patch_voxels": 32}
    card |= {"landmarks_mm": [[0, 0, 0], [60, 0, 0]], "neighbours": [[0, 1]], "lobes": None}
    (folder / "atlas.json").write_text(json.dumps(card))
    return folder
