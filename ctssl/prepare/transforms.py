"""Affine maps, and what is done with the transforms that a registration wrote.

Transforms are named for the way points go: `to_scan` takes atlas points into the scan. It is a list of files
in the order in which points pass them, warp and then affine, as antsApplyTransforms wants them too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctssl.prepare.grid import Grid
from ctssl.prepare.images import array_image, check_disk, check_written, not_written
from ctssl.prepare.lungs import SIDES, Lungs

_AROUND_MM = 24.0  # of the atlas around its lungs, where the scan's are looked for
_DICE_MM = 2.0  # overlap is counted on voxels about this far apart: 0.0005 off that of every 1 mm voxel


@dataclass(frozen=True)
class Affine:
    """A map of points x, y, z in mm: matrix @ point + shift; from the atlas to the scan."""

    matrix: np.ndarray
    shift: np.ndarray

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        """(P, 3) where points (P, 3) go."""
        return points_mm @ self.matrix.T + self.shift

    def write(self, path: Path) -> None:
        """Nothing; writes a file that ITK and antsRegistration read.

        Raises:
            OSError: the disk did not take it.
        """
        import SimpleITK as sitk

        transform = sitk.AffineTransform(3)
        transform.SetMatrix(self.matrix.ravel().tolist())
        transform.SetTranslation(self.shift.tolist())
        sitk.WriteTransform(transform, str(path))
        check_transforms(path)


def check_transforms(affine: Path, *warps: Path) -> None:
    """Nothing, when the files that a library should have written lie whole on the disk.

    Raises:
        OSError: the disk did not take them; ITK and ants say nothing of a full one.
        RuntimeError: the disk has room, and one is not there.
    """
    import SimpleITK as sitk

    for path in (affine, *warps):
        if not path.exists():
            check_disk(path.parent)
            raise RuntimeError(f"{path.name} was not written")
    try:
        sitk.ReadTransform(str(affine))
    except RuntimeError:
        raise not_written(affine) from None
    for path in warps:
        check_written(path)


def map_points(points_mm: np.ndarray, to_scan: Sequence[Path | str]) -> np.ndarray:
    """(P, 3) points in the scan of atlas points (P, 3), x, y, z in LPS mm.

    Args:
        points_mm: in the atlas.
        to_scan: files of transforms, in the order in which points pass them.
    """
    transform = composite(to_scan)
    return np.array([transform.TransformPoint(point) for point in points_mm.tolist()]).reshape(-1, 3)


def warp_to_atlas(
    array: np.ndarray,
    grid: Grid,
    atlas_grid: Grid,
    to_scan: Sequence[Path | str],
    *,
    labels: bool,
    outside: float,
) -> np.ndarray:
    """(z, y, x) on the atlas's grid: a scan's array as the atlas sees it, in its own type.

    Args:
        array: (z, y, x) on `grid`.
        grid: of the scan.
        atlas_grid: where values are wanted.
        to_scan: files of transforms, in the order in which points pass them.
        labels: take the nearest voxel; otherwise linear.
        outside: the value beyond the array.
    """
    import SimpleITK as sitk

    image = array_image(array, grid)
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(atlas_grid.size)
    resampler.SetOutputOrigin(atlas_grid.origin_mm)
    resampler.SetOutputSpacing((atlas_grid.spacing_mm,) * 3)
    resampler.SetOutputDirection(atlas_grid.direction.ravel().tolist())
    resampler.SetInterpolator(sitk.sitkNearestNeighbor if labels else sitk.sitkLinear)
    resampler.SetDefaultPixelValue(outside)
    resampler.SetTransform(composite(to_scan))
    return sitk.GetArrayFromImage(resampler.Execute(image))


def overlap(scan: Lungs, atlas: Lungs, to_scan: Sequence[Path | str]) -> dict[str, float | None]:
    """dice_right and dice_left: overlap of each lung, seen from the atlas; None where neither has it.

    Args:
        scan: brought to the atlas.
        atlas: what it is compared with.
        to_scan: files of transforms from atlas to scan, in the order in which points pass them.
    """
    step = max(1, round(_DICE_MM / atlas.grid.spacing_mm))
    near = atlas.trimmed(_AROUND_MM)
    theirs = near.mask[::step, ::step, ::step]
    k, j, i = theirs.shape
    grid = Grid(near.grid.origin_mm, near.grid.spacing_mm * step, (i, j, k), near.grid.axes)
    ours = warp_to_atlas(scan.mask, scan.grid, grid, to_scan, labels=True, outside=0)
    out: dict[str, float | None] = {}
    for name, label in SIDES.items():
        one, two = ours == label, theirs == label
        total = int(np.count_nonzero(one) + np.count_nonzero(two))
        out[f"dice_{name}"] = round(2 * int(np.count_nonzero(one & two)) / total, 4) if total else None
    return out


def min_jacobian(atlas: Lungs, warp: Path, affine: Path) -> float:
    """Smallest Jacobian determinant of the whole map (warp, then affine) inside the atlas's lungs."""
    import SimpleITK as sitk

    field = sitk.ReadImage(str(warp))
    array = sitk.GetArrayFromImage(field).astype(np.float64)  # (z, y, x, 3): x, y, z in mm
    direction = np.array(field.GetDirection()).reshape(3, 3)
    slopes = np.stack(np.gradient(array, field.GetSpacing()[0], axis=(2, 1, 0)), -1)  # along i, j, k
    local = np.linalg.det(np.eye(3) + slopes @ direction.T)
    linear = np.array(sitk.ReadTransform(str(affine)).GetParameters())[:9].reshape(3, 3)
    grid = _grid_like(field, atlas.grid.axes)
    positions = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1).reshape(-1, 3)
    index = np.rint(atlas.grid.to_array(grid.to_points(positions.astype(float)))).astype(int)
    known = ((index >= 0) & (index < atlas.mask.shape)).all(1)
    inside = np.zeros(len(index), bool)
    inside[known] = atlas.mask[tuple(index[known].T)] > 0
    return round(float(np.linalg.det(linear) * local.ravel()[inside].min()), 4)


def inverse_error_mm(
    points_mm: np.ndarray, to_scan: Sequence[Path | str], inverse_warp: Path, affine: Path
) -> np.ndarray:
    """(P,) mm between atlas points (P, 3) and where they come back to from the scan, by the inverse files."""
    import SimpleITK as sitk

    there = map_points(points_mm, to_scan)
    back = sitk.CompositeTransform([_read(inverse_warp), sitk.ReadTransform(str(affine)).GetInverse()])
    again = np.array([back.TransformPoint(point) for point in there.tolist()])
    return np.linalg.norm(again - points_mm, axis=1)


def composite(to_scan: Sequence[Path | str]) -> Any:
    """The SimpleITK transform from atlas to scan of these files, in the order that points pass them."""
    import SimpleITK as sitk

    return sitk.CompositeTransform([_read(Path(name)) for name in reversed(to_scan)])  # the last comes first


def _read(path: Path) -> Any:
    import SimpleITK as sitk

    if path.suffix == ".mat":
        return sitk.ReadTransform(str(path))
    return sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))


def _grid_like(image: Any, axes: str) -> Grid:
    x, y, z = image.GetOrigin()
    i, j, k = image.GetSize()
    return Grid((x, y, z), image.GetSpacing()[0], (i, j, k), axes)
