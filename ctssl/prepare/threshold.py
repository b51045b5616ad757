"""Right (1) and left (2) lung by thresholds and shape, without weights.

Inside, arrays are upright: z toward the head, y toward the back, x toward the subject's left.
"""

from typing import Any

import numpy as np
from scipy import ndimage

from ctssl.errors import ScanError
from ctssl.prepare.airways import airways
from ctssl.prepare.closing import closed
from ctssl.prepare.grid import Grid
from ctssl.prepare.inside import inner_air
from ctssl.prepare.sides import find_spine, part_sides
from ctssl.prepare.upright import from_upright, to_upright

_SMOOTH_MM = 1.0
_LEAST_ML, _LEAST_SHARE = 50.0, 0.1  # of a part of a lung; share of the largest part
_GAS_HU = -940.0  # of gas in the belly; lung that disease has cut off is denser by far
_ISLAND_HU, _ISLAND_ML, _ISLAND_MM = -900.0, 0.5, 25.0

NO_LUNGS = "no lungs were found in the scan"
NO_LUNGS_ADVICE = "is it a chest CT in Hounsfield units? If so, give a mask in the manifest's mask column"


def threshold_mask(hu: np.ndarray, grid: Grid) -> np.ndarray:
    """(z, y, x) uint8 lungs: 1 right, 2 left, along the axes of `grid`, whatever they are.

    Air inside the body that is not joined to the outside, less windpipe and main bronchi, parted into right
    and left, with vessels closed.

    Args:
        hu: (z, y, x) on `grid`, the whole field of view.
        grid: voxels of about 2 to 5 mm; what is finer is averaged first and sharpened then.

    Raises:
        ScanError: no lungs were found, or one and no spine to tell which.
    """
    upright = np.ascontiguousarray(to_upright(hu, grid.axes), np.float32)
    return np.ascontiguousarray(from_upright(_lungs(upright, grid.spacing_mm), grid.axes))


def _lungs(hu: np.ndarray, voxel_mm: float) -> np.ndarray:
    """(z, y, x) uint8 lungs of upright float32 HU."""
    smooth = ndimage.gaussian_filter(hu, _SMOOTH_MM / voxel_mm)
    air = inner_air(smooth, voxel_mm)
    if not air.any():
        raise ScanError(NO_LUNGS, NO_LUNGS_ADVICE)
    spine = find_spine(smooth, air, voxel_mm)
    tubes = airways(smooth, air, spine.x, voxel_mm)
    parts = _lung_parts(air & ~tubes, smooth, voxel_mm)
    if not parts.any():
        raise ScanError(NO_LUNGS, NO_LUNGS_ADVICE)
    out = closed(part_sides(parts, smooth, spine, voxel_mm), smooth, voxel_mm)
    out[tubes] = 0
    return out


def _lung_parts(air: np.ndarray, smooth: np.ndarray, voxel_mm: float) -> np.ndarray:
    """(z, y, x) bool: the parts that may be lung: large, and not gas below the diaphragm."""
    labels, count = ndimage.label(air)
    if count == 0:
        return air
    size = np.bincount(labels.ravel(), minlength=count + 1)
    size[0] = 0
    keep = size >= max(size.max() * _LEAST_SHARE, _LEAST_ML * 1e3 / voxel_mm**3)
    boxes = ndimage.find_objects(labels)
    largest = boxes[size.argmax() - 1][0]
    half = (largest.start + largest.stop) / 2
    for number in np.flatnonzero(keep):
        box = boxes[number - 1]
        inside = smooth[box][labels[box] == number]
        if box[0].stop < half and np.median(inside) < _GAS_HU:
            keep[number] = False
    return (keep | _islands(labels, boxes, size * voxel_mm**3 / 1e3, keep, smooth, voxel_mm))[labels]


def _islands(
    labels: np.ndarray,
    boxes: list[Any],
    size_ml: np.ndarray,
    keep: np.ndarray,
    smooth: np.ndarray,
    voxel_mm: float,
) -> np.ndarray:
    """(parts,) bool: small parts near a lung that dense disease has cut off, and no gas."""
    islands = np.zeros(len(keep), bool)
    every_second = keep[labels[::2, ::2, ::2]]
    near = ndimage.distance_transform_edt(~every_second, sampling=2 * voxel_mm) < _ISLAND_MM
    for number in np.flatnonzero((size_ml >= _ISLAND_ML) & ~keep):
        box = boxes[number - 1]
        inside = labels[box] == number
        at_side = any(
            cut.start == 0 or cut.stop == n for cut, n in zip(box[1:], labels.shape[1:], strict=True)
        )
        if not at_side and np.median(smooth[box][inside]) > _ISLAND_HU:
            islands[number] = near[tuple((cut.start + cut.stop - 1) // 4 for cut in box)]
    return islands
