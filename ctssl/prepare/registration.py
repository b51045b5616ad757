"""Registration of lung masks to the atlas: an affine fit, then SyN, with antspyx on a coarse grid.

Masks enter as +1 in the right lung and -1 in the left, so both sides weigh the same and cannot swap.
With fixed = atlas and moving = scan, the forward transforms take atlas points into the scan.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from ctssl.config.prepare import Registration as Settings
from ctssl.errors import ScanError
from ctssl.prepare.grid import Grid
from ctssl.prepare.images import check_disk
from ctssl.prepare.lungs import SIDES, Lungs, coarse, signed
from ctssl.prepare.start import Fit, guesses
from ctssl.prepare.transforms import (
    Affine,
    check_transforms,
    inverse_error_mm,
    map_points,
    min_jacobian,
    overlap,
)

_PAD_VOXELS = 6  # fewer leave landmarks at the rim behind
_MARGIN_MM = 24.0  # of the atlas around its lungs
_WINDOW_HU = (-1000.0, -500.0)  # lung tissue to vessels, for the CT
_BETTER = 0.005  # overlap by which another start must be better to be worth a second try
_APART_MM = 12.0  # of the points that the inverse is tried on


@dataclass(frozen=True)
class Alignment:
    """The result of a registration.

    Attributes:
        landmarks_mm: (N, 3) atlas landmarks in the scan, x, y, z in LPS mm.
        shown: (N,) bool, False for landmarks of a missing lung and for those beyond what the scan saw.
        numbers: dice_right, dice_left (None: not there), min_jacobian, inverse_mm_mean, inverse_mm_p95,
            cut (faces, joined by spaces), missing (right, left or nothing), rung (the start that won), rungs
            (how many were tried).
        files: transforms by the name that says from where to where.
    """

    landmarks_mm: np.ndarray
    shown: np.ndarray
    numbers: dict[str, Any]
    files: dict[str, Path]


def register(
    scan: Lungs, atlas: Lungs, landmarks_mm: np.ndarray, settings: Settings, folder: Path
) -> Alignment:
    """The alignment of a scan to the atlas; transforms are written into `folder`.

    The same inputs and settings give the same bytes on one machine: seed and thread count are settings,
    every voxel of the coarse grid is a sample. A scan with one lung is registered by that lung. Lungs that
    the field of view cuts are registered to the part of the atlas that they show, so a half lung is not
    stretched to a whole one. When a lung fits badly, other starts are tried and the best result is kept.

    Args:
        scan: with `hu` when settings.ct_weight is above 0.
        atlas: the same.
        landmarks_mm: (N, 3) in the atlas, x, y, z in LPS mm.
        settings: of the registration.
        folder: gets the files of `Alignment.files`.

    Raises:
        ScanError: the CT shall take part, and that of the atlas is not known.
    """
    if settings.ct_weight > 0 and (atlas.hu is None or scan.hu is None):
        whose = "atlas" if atlas.hu is None else "scan"
        raise ScanError(
            f"registration.ct_weight is {settings.ct_weight:g}, but there is no CT of the {whose}",
            "set registration.ct_weight: 0, or take an atlas with a CT (atlas.ct)",
        )
    missing, cut = scan.missing(), scan.cut_faces()
    lacks = atlas.missing()
    if lacks and lacks != missing:
        raise ScanError(
            f"the atlas has no {lacks} lung, and the scan has one", "take an atlas with both lungs"
        )
    there = [label for name, label in SIDES.items() if name != missing]
    atlas = atlas.trimmed(_MARGIN_MM)
    scan, target = (lungs.only(there) if missing else lungs for lungs in (scan, atlas))
    fit = Fit(scan, target, cut)
    ladder = guesses(scan, target, cut)
    name, guess = next(ladder)
    affine = fit(guess)
    with TemporaryDirectory(dir=folder, prefix=".try-") as scratch:
        best = _Try(scan, target, affine, cut, settings, Path(scratch) / "first")
        rung, rungs = name, 1
        if best.worst() < settings.enough_dice:
            others = [(fit(guess), name) for name, guess in ladder]
            rungs += len(others)
            other, name = max(others, key=lambda pair: fit.dice(pair[0]))
            if fit.dice(other) > fit.dice(affine) + _BETTER:
                second = _Try(scan, target, other, cut, settings, Path(scratch) / "second")
                if second.worst() > best.worst():
                    best, rung = second, name
        files = {key: path.replace(folder / path.name) for key, path in best.files.items()}
    to_scan = [files["warp"], files["affine"]]
    mapped = map_points(landmarks_mm, to_scan)
    shown = scan.sees(mapped, cut) & _of_lungs_there(landmarks_mm, atlas, missing)
    numbers = {
        **best.dice,
        "min_jacobian": min_jacobian(best.atlas, files["warp"], files["affine"]),
        **_inverse(best.atlas, files),
        "cut": " ".join(cut),
        "missing": missing,
        "rung": rung,
        "rungs": rungs,
    }
    return Alignment(mapped, shown, numbers, files)


class _Try:
    """One SyN from one affine start; its files lie in a folder of its own.

    Attributes:
        atlas: the part that the scan shows.
        dice: of each lung with that part.
        files: affine, warp, inverse_warp.
    """

    def __init__(
        self, scan: Lungs, atlas: Lungs, affine: Affine, cut: Sequence[str], settings: Settings, folder: Path
    ) -> None:
        folder.mkdir()
        self.atlas = _shown(atlas, scan, affine, cut) if cut or scan.seen is not None else atlas
        with chdir(folder):  # ants stumbles over brackets in paths; these names have none
            affine.write(Path(_START))
            _run(self.atlas, scan, settings)
            check_transforms(*(Path(old) for old, _ in _FILES.values()))
        self.files = {key: (folder / old).rename(folder / new) for key, (old, new) in _FILES.items()}
        self.dice = overlap(scan, self.atlas, [self.files["warp"], self.files["affine"]])

    def worst(self) -> float:
        """The overlap of the worse lung."""
        return min(value for value in self.dice.values() if value is not None)


_START = "start.mat"
_FILES = {
    "affine": ("0GenericAffine.mat", "from-atlas_to-scan_affine.mat"),
    "warp": ("1Warp.nii.gz", "from-atlas_to-scan_warp.nii.gz"),
    "inverse_warp": ("1InverseWarp.nii.gz", "from-scan_to-atlas_warp.nii.gz"),
}


def _run(atlas: Lungs, scan: Lungs, settings: Settings) -> None:
    """SyN in one call of antsRegistration, which writes into the working directory."""
    ants = ants_with(settings.threads)
    from ants.internal import get_pointer_string as pointer

    channels = [(1.0, *(_sides(ants, lungs, settings.spacing_mm) for lungs in (atlas, scan)))]
    if settings.ct_weight > 0:
        tissue = (_tissue(ants, lungs, settings.spacing_mm) for lungs in (atlas, scan))
        channels.append((settings.ct_weight, *tissue))
    levels = range(len(settings.syn_iterations) - 1, -1, -1)
    args = ["-d", "3", "-r", _START, "--float", "1", "-z", "1", "-u", "0"]
    args += ["--random-seed", str(settings.seed), "-o", "./"]
    for weight, fixed, moving in channels:
        args += ["-m", f"MeanSquares[{pointer(fixed)},{pointer(moving)},{weight:g},1,None]"]
    args += ["-t", f"SyN[{settings.gradient_step},{settings.flow_sigma},{settings.total_sigma}]"]
    args += ["-c", f"[{'x'.join(map(str, settings.syn_iterations))},1e-6,10]"]
    args += ["-f", "x".join(str(2**level) for level in levels), "-s", "x".join(map(str, levels))]
    try:
        ants.registration(args, None)
    except RuntimeError:
        check_disk(Path())  # a full one is not the scan's fault
        raise


_threads_of_ants: int | None = None


def ants_with(threads: int) -> Any:
    """The module ants, computing with this many threads.

    Raises:
        RuntimeError: it already computes with another number, which cannot be changed any more.
    """
    global _threads_of_ants
    name = "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"  # ITK reads this once, at its first image
    if _threads_of_ants is None:
        if "ants" in sys.modules and os.environ.get(name) != str(threads):
            raise RuntimeError(
                f"ants was imported before its thread count was set to {threads}; set {name} in the "
                "environment, or let this function import ants"
            )
        os.environ[name] = str(threads)
        _threads_of_ants = threads
    if _threads_of_ants != threads:
        raise RuntimeError(
            f"ants computes with {_threads_of_ants} threads in this process, not {threads}; "
            "register with other counts in other processes"
        )
    import ants

    return ants


def _sides(ants: Any, lungs: Lungs, spacing_mm: float) -> Any:
    sides = signed(lungs.mask)
    pad_mm = _PAD_VOXELS * spacing_mm
    return ants_image(ants, *coarse(sides, lungs.grid, spacing_mm, pad_mm=pad_mm, sigma_mm=0.5 * spacing_mm))


def _tissue(ants: Any, lungs: Lungs, spacing_mm: float) -> Any:
    """Vessels in the lungs: 0 outside and in what is no denser than the median; on the grid of `_sides`."""
    assert lungs.hu is not None, "register sees to that"
    low, high = _WINDOW_HU
    tissue = np.where(lungs.mask > 0, (np.clip(lungs.hu, low, high) - low) / (high - low), 0)
    tissue = tissue.astype(np.float32)
    inside = lungs.mask > 0
    tissue[inside] = np.clip(tissue[inside] - np.median(tissue[inside]), 0, None) + 1e-6
    pad_mm = _PAD_VOXELS * spacing_mm
    return ants_image(ants, *coarse(tissue, lungs.grid, spacing_mm, pad_mm=pad_mm, sigma_mm=0.5 * spacing_mm))


def ants_image(ants: Any, array: np.ndarray, grid: Grid) -> Any:
    """An ants image of an array (z, y, x) on a grid."""
    return ants.from_numpy(
        np.ascontiguousarray(array.transpose(2, 1, 0)),
        origin=list(grid.origin_mm),
        spacing=[grid.spacing_mm] * 3,
        direction=grid.direction,
    )


def _shown(atlas: Lungs, scan: Lungs, affine: Affine, cut: Sequence[str]) -> Lungs:
    """The atlas without the lung that lies, by the affine map, where the scan saw nothing."""
    mask = atlas.mask.copy()
    for z, plane in enumerate(mask):  # one at a time: the points of all voxels need much memory
        rows, columns = np.nonzero(plane)
        points = atlas.grid.to_points(np.stack([np.full(len(rows), z), rows, columns], 1).astype(float))
        unseen = ~scan.sees(affine(points), cut)
        plane[rows[unseen], columns[unseen]] = 0
    return replace(atlas, mask=mask)


def _of_lungs_there(points_mm: np.ndarray, atlas: Lungs, missing: str) -> np.ndarray:
    """(P,) bool: atlas points (P, 3) that do not lie nearer to the missing lung than to the other."""
    if not missing:
        return np.ones(len(points_mm), bool)
    gone = SIDES[missing]
    away = [
        cKDTree(_spread_points(atlas.mask == label, atlas.grid, 4.0)).query(points_mm)[0]
        for label in (gone, 3 - gone)
    ]
    return np.asarray(away[0] > away[1])


def _inverse(atlas: Lungs, files: dict[str, Path]) -> dict[str, float]:
    """How far points of the atlas's lungs come back from where they started, by the inverse files."""
    points = _spread_points(atlas.mask > 0, atlas.grid, _APART_MM)
    miss = inverse_error_mm(points, [files["warp"], files["affine"]], files["inverse_warp"], files["affine"])
    return {
        "inverse_mm_mean": round(float(miss.mean()), 3),
        "inverse_mm_p95": round(float(np.percentile(miss, 95)), 3),
    }


def _spread_points(inside: np.ndarray, grid: Grid, apart_mm: float) -> np.ndarray:
    step = max(1, round(apart_mm / grid.spacing_mm))
    return grid.to_points(np.argwhere(inside[::step, ::step, ::step]).astype(float) * step)
