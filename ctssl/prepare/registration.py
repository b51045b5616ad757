"""Registration of lung masks to the atlas: affine, then SyN, with antspyx on a coarse grid.

Masks enter as +1 in the right lung and -1 in the left, so both sides weigh the same and cannot swap.
With fixed = atlas and moving = scan, the forward transforms take atlas points into the scan.
"""

import os
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from ctssl.config.prepare import Registration as Settings
from ctssl.errors import ScanError
from ctssl.prepare.grid import LEFT, RIGHT, Grid, covering_grid
from ctssl.prepare.mask import lung_box

_PAD_MM = 40.0
_CUT_CM2 = 3.0  # lung on an outermost plane of the field of view that shows it goes on beyond
_FACES = {"R": "right", "L": "left", "A": "front", "P": "back", "I": "bottom", "S": "top"}
_OPPOSITE = dict(zip("RLAPIS", "LRPASI", strict=True))


@dataclass(frozen=True)
class Lungs:
    """A lung mask (z, y, x; 0, 1 right, 2 left) and its grid, which ends where the scan's view ends."""

    mask: np.ndarray
    grid: Grid

    def low_mm(self) -> np.ndarray:
        """(3,) lowest x, y, z that the grid's voxels cover."""
        return self.grid.corners_mm().min(0) - self.grid.spacing_mm / 2

    def high_mm(self) -> np.ndarray:
        """(3,) highest x, y, z that the grid's voxels cover."""
        return self.grid.corners_mm().max(0) + self.grid.spacing_mm / 2

    def cut_faces(self) -> tuple[str, ...]:
        """The faces of the field of view beyond which lung goes on: right, left, front, back, bottom, top."""
        cut = set()
        for axis, letter in enumerate(reversed(self.grid.axes)):  # of the array: z, y, x
            for plane, face in ((0, _OPPOSITE[letter]), (-1, letter)):
                area_cm2 = np.count_nonzero(self.mask.take(plane, axis)) * self.grid.spacing_mm**2 / 100
                if area_cm2 > _CUT_CM2:
                    cut.add(face)
        return tuple(name for letter, name in _FACES.items() if letter in cut)

    def cut_ends(self) -> tuple[bool, bool]:
        """Whether lung goes on beyond the lowest and the highest slice."""
        faces = self.cut_faces()
        return "bottom" in faces, "top" in faces


@dataclass(frozen=True)
class Alignment:
    """The result of a registration.

    Attributes:
        landmarks_mm: (N, 3) atlas landmarks in the scan, x, y, z in LPS mm.
        numbers: dice_right, dice_left, min_jacobian, cut_bottom, cut_top.
        files: transforms by the name that says from where to where.
    """

    landmarks_mm: np.ndarray
    numbers: dict[str, Any]
    files: dict[str, Path]


def register(
    scan: Lungs, atlas: Lungs, landmarks_mm: np.ndarray, settings: Settings, folder: Path
) -> Alignment:
    """The alignment of a scan to the atlas; transforms are written into `folder`.

    The same inputs and settings give the same bytes on one machine: seed and thread count are settings,
    every voxel of the coarse grid is a sample. Lungs that the field of view cuts are registered to the part
    of the atlas that they show, so a half lung is not stretched to a whole one.
    """
    # ITK reads this at its first image, so it must be set before ants is imported.
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(settings.threads)
    import ants

    cut = scan.cut_ends()
    scale, shift = start_affine(scan, atlas, cut)
    atlas = _shown(atlas, scan, scale, shift, cut)
    fixed, moving = (_ants_image(ants, *coarse_sides(lungs, settings.spacing_mm)) for lungs in (atlas, scan))
    with chdir(folder):  # ants stumbles over brackets in paths; these names have none
        ants.write_transform(_ants_affine(ants, scale, shift), _START)
        _run(ants, fixed, moving, settings)
        Path(_START).unlink()
        affine, warp, inverse = (Path(name).rename(better) for name, better in _FILES)
        to_scan = [str(warp), str(affine)]  # applied last to first
        mapped = map_points(landmarks_mm, to_scan)
        numbers = {
            **overlap(scan, atlas, to_scan),
            "min_jacobian": _min_jacobian(ants, atlas, affine, warp, settings.spacing_mm),
            "cut_bottom": cut[0],
            "cut_top": cut[1],
        }
    files = {"affine": folder / affine, "warp": folder / warp, "inverse_warp": folder / inverse}
    return Alignment(mapped, numbers, files)


_START = "start.mat"
_FILES = (
    ("0GenericAffine.mat", "from-atlas_to-scan_affine.mat"),
    ("1Warp.nii.gz", "from-atlas_to-scan_warp.nii.gz"),
    ("1InverseWarp.nii.gz", "from-scan_to-atlas_warp.nii.gz"),
)


def _run(ants: Any, fixed: Any, moving: Any, settings: Settings) -> None:
    """Affine and SyN in one call of antsRegistration, which writes into the working directory."""
    from ants.internal import get_pointer_string as pointer

    images = f"{pointer(fixed)},{pointer(moving)}"
    metric = f"MeanSquares[{images},1,1,None]"
    syn = f"SyN[{settings.gradient_step},{settings.flow_sigma},{settings.total_sigma}]"
    args = ["-d", "3", "-r", _START, "--float", "1", "-z", "1", "-u", "0"]
    args += ["--random-seed", str(settings.seed), "-o", "./"]
    for transform, iterations in (
        ("Affine[0.1]", settings.affine_iterations),
        (syn, settings.syn_iterations),
    ):
        levels = range(len(iterations) - 1, -1, -1)
        args += ["-m", metric, "-t", transform]
        args += ["-c", f"[{'x'.join(map(str, iterations))},1e-6,10]"]
        args += ["-f", "x".join(str(2**level) for level in levels), "-s", "x".join(map(str, levels))]
    ants.registration(args, None)


def coarse_sides(lungs: Lungs, spacing_mm: float) -> tuple[np.ndarray, Grid]:
    """(z, y, x) float32, +1 in the right lung and -1 in the left, smoothed, on a padded coarse grid."""
    low, high = lung_box(lungs.mask, margin=0)
    pad = round(_PAD_MM / lungs.grid.spacing_mm)
    corners = lungs.grid.to_points(np.stack([low - pad, high + pad]).astype(float))
    grid = covering_grid(corners, spacing_mm, lungs.grid.axes)
    sides = np.where(lungs.mask == RIGHT, 1, np.where(lungs.mask == LEFT, -1, 0)).astype(np.float32)
    part = tuple(slice(max(lo - 1, 0), hi + 1) for lo, hi in zip(low, high, strict=True))
    sides = np.pad(sides[part], 4)
    shift = np.array([p.start for p in part]) - 4
    sides = ndimage.gaussian_filter(sides, 0.5 * spacing_mm / lungs.grid.spacing_mm)
    index = np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij")
    points = grid.to_points(np.stack(index, -1).reshape(-1, 3).astype(float))
    where = (lungs.grid.to_array(points) - shift).T
    return ndimage.map_coordinates(sides, where, order=1, cval=0).reshape(grid.shape), grid


def start_affine(scan: Lungs, atlas: Lungs, cut: tuple[bool, bool]) -> tuple[np.ndarray, np.ndarray]:
    """Scales (3,) and shift (3,) that take atlas points to about their place in the scan, x, y, z.

    From centre and spread of the lungs. Of cut lungs only the part of the atlas that the scan shows is
    compared, found by its height at the same scale from front to back and right to left.
    """
    ours, theirs = _lung_points(scan), _lung_points(atlas)
    shown = theirs
    scale = ours.std(0) / theirs.std(0)
    if any(cut):
        flat = float(np.sqrt(scale[0] * scale[1]))
        for _ in range(20):
            height = np.ptp(ours[:, 2]) / flat
            low = theirs[:, 2].max() - height if cut[0] else theirs[:, 2].min()
            high = theirs[:, 2].min() + height if cut[1] and not cut[0] else theirs[:, 2].max()
            shown = theirs[(theirs[:, 2] >= low) & (theirs[:, 2] <= high)]
            wide = ours.std(0) / shown.std(0)
            flat = float(np.sqrt(wide[0] * wide[1]))
        scale = np.array([wide[0], wide[1], flat])
    return scale, ours.mean(0) - scale * shown.mean(0)


def _shown(atlas: Lungs, scan: Lungs, scale: np.ndarray, shift: np.ndarray, cut: tuple[bool, bool]) -> Lungs:
    """The part of the atlas between the planes at which the scan's lungs are cut."""
    low, high = ((z - shift[2]) / scale[2] for z in (scan.low_mm()[2], scan.high_mm()[2]))
    planes = atlas.grid.to_points(
        np.stack([np.arange(atlas.grid.shape[0])] + [np.zeros(atlas.grid.shape[0])] * 2, 1)
    )
    keep = ((planes[:, 2] >= low) | (not cut[0])) & ((planes[:, 2] <= high) | (not cut[1]))
    first, last = np.flatnonzero(keep)[[0, -1]]
    grid = atlas.grid.crop(np.array([first, 0, 0]), np.array([last + 1, *atlas.grid.shape[1:]]))
    return Lungs(atlas.mask[first : last + 1], grid)


def _lung_points(lungs: Lungs) -> np.ndarray:
    step = max(1, round(4 / lungs.grid.spacing_mm))
    positions = np.argwhere(lungs.mask[::step, ::step, ::step] > 0) * step
    return lungs.grid.to_points(positions.astype(float))


def _ants_image(ants: Any, array: np.ndarray, grid: Grid) -> Any:
    return ants.from_numpy(
        np.ascontiguousarray(array.transpose(2, 1, 0)),
        origin=list(grid.origin_mm),
        spacing=[grid.spacing_mm] * 3,
        direction=grid.direction,
    )


def _ants_affine(ants: Any, scale: np.ndarray, shift: np.ndarray) -> Any:
    parameters = np.concatenate([np.diag(scale).ravel(), shift])
    return ants.new_ants_transform(
        precision="float", dimension=3, transform_type="AffineTransform", parameters=parameters
    )


def map_points(points_mm: np.ndarray, to_scan: list[str]) -> np.ndarray:
    """(P, 3) points in the scan of atlas points (P, 3), x, y, z in LPS mm.

    Args:
        points_mm: in the atlas.
        to_scan: files of transforms, the last is applied first.
    """
    import ants
    import pandas as pd

    table = pd.DataFrame(points_mm, columns=["x", "y", "z"])
    return ants.apply_transforms_to_points(3, table, to_scan)[["x", "y", "z"]].to_numpy()


def overlap(scan: Lungs, atlas: Lungs, to_scan: list[str]) -> dict[str, float]:
    """dice_right and dice_left: overlap of each lung on the atlas's own grid.

    Args:
        scan: brought to the atlas.
        atlas: what it is compared with.
        to_scan: files of transforms from atlas to scan, the last is applied first.
    """
    import ants

    warped = ants.apply_transforms(
        fixed=_ants_image(ants, atlas.mask.astype(np.float32), atlas.grid),
        moving=_ants_image(ants, scan.mask.astype(np.float32), scan.grid),
        transformlist=to_scan,
        interpolator="nearestNeighbor",
    )
    warped = np.rint(warped.numpy().transpose(2, 1, 0))
    out = {}
    for name, label in (("right", RIGHT), ("left", LEFT)):
        ours, theirs = warped == label, atlas.mask == label
        total = int(np.count_nonzero(ours) + np.count_nonzero(theirs))
        out[f"dice_{name}"] = round(2 * int(np.count_nonzero(ours & theirs)) / total, 4) if total else 0.0
    return out


def _min_jacobian(ants: Any, atlas: Lungs, affine: Path, warp: Path, spacing_mm: float) -> float:
    """Smallest Jacobian determinant of the whole map inside the atlas's lungs."""
    sides, grid = coarse_sides(atlas, spacing_mm)
    domain = _ants_image(ants, sides, grid)
    jacobian = ants.create_jacobian_determinant_image(domain, str(warp), do_log=False)
    parameters = np.asarray(ants.read_transform(str(affine)).parameters)
    linear = float(np.linalg.det(parameters[:9].reshape(3, 3)))
    inside = np.abs(sides) > 0.5
    return round(linear * float(jacobian.numpy().transpose(2, 1, 0)[inside].min()), 4)


def check_overlap(numbers: dict[str, Any], min_dice: float) -> None:
    """Nothing, when both lungs overlap the atlas enough.

    Raises:
        ScanError: with both overlaps.
    """
    if min(numbers["dice_right"], numbers["dice_left"]) < min_dice:
        raise ScanError(
            f"the lungs do not fit the atlas: Dice right {numbers['dice_right']}, left "
            f"{numbers['dice_left']}, at least {min_dice} is needed",
            "look at the scan's picture; is the mask right, are both lungs there? A mask of your own goes "
            "into the manifest's mask column",
        )
