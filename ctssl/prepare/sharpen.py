"""A coarse lung mask on a finer grid, its outline set by the finer values."""

import numpy as np
from scipy import ndimage

from ctssl.prepare.grid import Grid

_WALL_HU = 30.0  # the outline runs halfway from the lung's value to this
_CLEAR_HU = 200.0  # nearer to the edge a coarse voxel may hold both
_BAND = 1.2  # coarse voxels on both sides of the outline where the finer values decide
_PLANES = 32  # of the fine grid that are worked on at a time


def sharpen(mask: np.ndarray, grid: Grid, hu: np.ndarray, fine: Grid) -> np.ndarray:
    """(z, y, x) uint8 on `fine`: the coarse mask, its outline where the finer values pass from lung to wall.

    Only voxels within about one coarse voxel of the coarse outline change, and only where this outline runs
    between air and tissue: where it runs through tissue (vessels at the hilum, what was closed) or through
    air (the end of a bronchus, the border of touching lungs) the coarse mask holds.

    Args:
        mask: (z, y, x) labels on `grid`.
        grid: along the same axes as `fine`.
        hu: (z, y, x) on `fine`.
        fine: any part of the same space; beyond `grid` there is no lung.

    Raises:
        ValueError: the grids have different axes.
    """
    if grid.axes != fine.axes:
        msg = f"both grids must have the same axes, but these are {grid.axes} and {fine.axes}"
        raise ValueError(msg)
    first = grid.to_array(fine.to_points(np.zeros(3)))
    step = fine.spacing_mm / grid.spacing_mm
    at = [f + step * np.arange(n) for f, n in zip(first, fine.shape, strict=True)]
    depth, label = _depth(mask)
    coarse_hu = _sampled(hu, -first / step, 1 / step, mask.shape)
    edge_hu = (float(np.median(coarse_hu[mask > 0])) + _WALL_HU) / 2 if mask.any() else 0.0
    open_ = _edge_of_air(mask, depth, coarse_hu, edge_hu)
    out = np.empty(fine.shape, np.uint8)
    for start in range(0, fine.shape[0], _PLANES):
        part = slice(start, start + _PLANES)
        places = (at[0][part], at[1], at[2])
        inside = _linear(depth, places)
        keep = inside > 0
        band = np.flatnonzero((np.abs(inside) < _BAND) & _nearest(open_, places))
        keep.ravel()[band] = _light(hu, part, band) < edge_hu
        out[part] = np.where(keep, _nearest(label, places), 0)
    return out


def _depth(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance from the outline in voxels, float32, positive inside; and labels spread outward."""
    box = ndimage.find_objects((mask > 0).astype(np.uint8))
    depth, label = np.full(mask.shape, -9.0, np.float32), mask.copy()
    if not box:
        return depth, label
    near = tuple(slice(max(cut.start - 3, 0), cut.stop + 3) for cut in box[0])
    lung = np.pad(mask[near] > 0, 1, mode="edge")  # an end of the image is no outline
    inner = tuple(slice(1, -1) for _ in range(3))
    depth[near] = (ndimage.distance_transform_edt(lung) - 0.5)[inner]
    away, nearest = ndimage.distance_transform_edt(mask[near] == 0, return_indices=True)
    outside = away > 0
    depth[near][outside] = 0.5 - away[outside]
    label[near] = mask[near][tuple(nearest)]
    return depth, label


def _edge_of_air(mask: np.ndarray, depth: np.ndarray, hu: np.ndarray, edge_hu: float) -> np.ndarray:
    """(z, y, x) bool: coarse voxels around which air is lung, tissue is not, and all lung is of one side."""
    unlike = np.where(mask, hu > edge_hu + _CLEAR_HU, hu < edge_hu - _CLEAR_HU)
    unlike &= np.abs(depth) < _BAND + 1
    highest, lowest = ndimage.maximum_filter(mask, 3), ndimage.minimum_filter(np.where(mask, mask, 9), 3)
    two_sides = (highest > 0) & (lowest < highest)
    return ~ndimage.binary_dilation(unlike | two_sides, np.ones((3, 3, 3), bool))


def _sampled(hu: np.ndarray, first: np.ndarray, step: float, shape: tuple[int, ...]) -> np.ndarray:
    """Fine values at the coarse voxels, linear; beyond the fine grid those at its end."""
    places = [
        np.clip(f + step * np.arange(n), 0, m - 1) for f, n, m in zip(first, shape, hu.shape, strict=True)
    ]
    return _linear(hu, tuple(places))


def _linear(values: np.ndarray, places: tuple[np.ndarray, ...]) -> np.ndarray:
    """float32 values at positions along each axis, linear, axis after axis; beyond the ends as at the end."""
    for axis, place in enumerate(places):
        last = values.shape[axis] - 1
        place = np.clip(place, 0, last)
        low = np.minimum(place.astype(int), max(last - 1, 0))
        share = (place - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        below = np.take(values, low, axis).astype(np.float32)
        values = below + share * (np.take(values, np.minimum(low + 1, last), axis) - below)
    return values


def _nearest(values: np.ndarray, places: tuple[np.ndarray, ...]) -> np.ndarray:
    """Values of the nearest voxels; beyond the ends those at the end."""
    for axis, place in enumerate(places):
        values = np.take(values, np.clip(np.rint(place).astype(int), 0, values.shape[axis] - 1), axis)
    return values


def _light(hu: np.ndarray, part: slice, band: np.ndarray) -> np.ndarray:
    """(B,) float32 HU, lightly smoothed (with its six neighbours), of the flat voxels `band` of hu[part]."""
    shape = (len(range(*part.indices(hu.shape[0]))), *hu.shape[1:])
    at = np.unravel_index(band, shape)
    at = (at[0] + part.start, *at[1:])
    total = 2 * hu[at].astype(np.float32)
    for axis in range(3):
        for way in (-1, 1):
            moved = list(at)
            moved[axis] = np.clip(at[axis] + way, 0, hu.shape[axis] - 1)
            total += hu[tuple(moved)]
    return total / 8
