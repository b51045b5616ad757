"""Patches around landmarks, and which landmarks count."""

import numpy as np

from ctssl.config.prepare import PATCH_VOXELS
from ctssl.prepare.grid import Grid


def extract_patches(array: np.ndarray, grid: Grid, centres_mm: np.ndarray, *, outside: float) -> np.ndarray:
    """(N, 32, 32, 32) patches centred on points, linear interpolation, axes landmark, z, y, x.

    Args:
        array: (z, y, x) on `grid`.
        grid: where the array lies; patches have its spacing and axes.
        centres_mm: (N, 3) x, y, z in LPS mm.
        outside: the value beyond the array.
    """
    offset = np.arange(PATCH_VOXELS) - (PATCH_VOXELS - 1) / 2
    patches = np.empty((len(centres_mm),) + (PATCH_VOXELS,) * 3, array.dtype)
    for patch, centre in zip(patches, grid.to_array(centres_mm), strict=True):
        _cut(array, centre, offset, outside, patch)
    return patches


def _cut(
    array: np.ndarray, centre: np.ndarray, offset: np.ndarray, outside: float, patch: np.ndarray
) -> None:
    """Fills one patch. Its voxels are a shifted copy of the array's: eight weighted neighbours each."""
    start = centre + offset[0]
    first = np.floor(start).astype(int)
    box = np.full((PATCH_VOXELS + 1,) * 3, outside, np.float32)
    low, high = np.maximum(first, 0), np.minimum(first + PATCH_VOXELS + 1, array.shape)
    if (low < high).all():
        inside = tuple(slice(lo - f, hi - f) for lo, hi, f in zip(low, high, first, strict=True))
        box[inside] = array[tuple(slice(lo, hi) for lo, hi in zip(low, high, strict=True))]
    for axis, part in enumerate(start - first):
        near = box.take(range(PATCH_VOXELS), axis)
        far = box.take(range(1, PATCH_VOXELS + 1), axis)
        box = near if part == 0 else near * np.float32(1 - part) + far * np.float32(part)
    patch[...] = np.rint(box) if np.issubdtype(patch.dtype, np.integer) else box


def valid_landmarks(centres_mm: np.ndarray, grid: Grid, min_inside_fraction: float) -> np.ndarray:
    """(N,) bool: the centre lies in the volume, and enough of the patch does.

    Args:
        centres_mm: (N, 3) x, y, z in LPS mm.
        grid: of the volume, which ends where the scan's field of view ends.
        min_inside_fraction: of the patch's volume.
    """
    corners = grid.corners_mm()
    low, high = corners.min(0) - grid.spacing_mm / 2, corners.max(0) + grid.spacing_mm / 2
    half = PATCH_VOXELS * grid.spacing_mm / 2
    seen = np.minimum(centres_mm + half, high) - np.maximum(centres_mm - half, low)
    fraction = np.clip(seen / (2 * half), 0, 1).prod(1)
    centre_inside = ((centres_mm >= low) & (centres_mm <= high)).all(1)
    return centre_inside & (fraction >= min_inside_fraction)
