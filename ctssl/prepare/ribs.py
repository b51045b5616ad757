"""Lungs out to the ribs: where dense disease lies at the chest wall, thresholds leave a bite.

Arrays are upright: z toward the head, y toward the back, x toward the subject's left.
"""

import numpy as np
from scipy import ndimage

from ctssl.prepare.grid import LEFT, RIGHT

_BONE_HU = 160.0
_TURN_DEG = 4.0
_FROM_DEG, _TO_DEG = (
    -40.0,
    120.0,
)  # from a little before the side to the back: the heart lies before, not behind
_FAR_MM = 150.0
_RIB_MM, _RIB_DEG = 16.0, 8.0  # half the distance from rib to rib
_USUAL_MM = (2.0, 8.0)  # from lung to rib where nothing lies between
_USUAL_SHARE = 30  # percent: the thinnest of the wall, for disease may lie before much of it
_BITE_MM = 6.0
_APEX_MM = 30.0  # above lie muscles and the first ribs run flat


def bites(lungs: np.ndarray, hu: np.ndarray, voxel_mm: float) -> np.ndarray:
    """(z, y, x) uint8: tissue between a lung and its ribs, farther in than the chest wall is thick elsewhere.

    From an upright axis through each lung rays run to its side and back. Where a ray's last lung voxel lies
    deeper under the ribs than usual in this lung, what is between is labelled. Rays without lung, as below
    the diaphragm, tell nothing.

    Args:
        lungs: (z, y, x) uint8, 1 right, 2 left.
        hu: (z, y, x), smoothed a little.
        voxel_mm: edge of a voxel.
    """
    out = np.zeros_like(lungs)
    axes = {label: _axis(lungs == label) for label in (RIGHT, LEFT) if (lungs == label).any()}
    tilt_deg = 0.0
    if len(axes) == 2:  # the line from lung to lung shows how the body lies
        (y_right, x_right), (y_left, x_left) = axes[RIGHT], axes[LEFT]
        tilt_deg = float(np.rad2deg(np.arctan2(y_left - y_right, x_left - x_right)))
    for label, axis in axes.items():
        side = -1 if label == RIGHT else 1
        bite = _bite(lungs == label, hu, axis, side, side * tilt_deg, voxel_mm)
        out[bite & (lungs == 0)] = label
    return out


def _axis(lung: np.ndarray) -> tuple[float, float]:
    """Voxel y, x of the middle of a lung."""
    rows, columns = np.nonzero(shadow := lung.sum(0))
    weights = shadow[rows, columns]
    return float(np.average(rows, weights=weights)), float(np.average(columns, weights=weights))


def _bite(
    lung: np.ndarray,
    hu: np.ndarray,
    centre: tuple[float, float],
    side: int,
    tilt_deg: float,
    voxel_mm: float,
) -> np.ndarray:
    """(z, y, x) bool: the bites of one lung, whose chest wall lies toward x of sign `side`."""
    heights = np.flatnonzero(lung.any((1, 2)))
    levels = slice(heights[0], heights[-1] + 1)
    turns_deg = tilt_deg + np.arange(_FROM_DEG, _TO_DEG + 1, _TURN_DEG)  # from the side toward the back
    turns = np.deg2rad(turns_deg)
    away = np.arange(0, _FAR_MM / voxel_mm)
    rows = np.rint(centre[0] + np.outer(np.sin(turns), away)).astype(int)
    columns = np.rint(centre[1] + side * np.outer(np.cos(turns), away)).astype(int)
    shown = (rows >= 0) & (rows < lung.shape[1]) & (columns >= 0) & (columns < lung.shape[2])
    rows, columns = (np.clip(a, 0, n - 1) for a, n in zip((rows, columns), lung.shape[1:], strict=True))
    lung_along = lung[levels][:, rows, columns] & shown  # (z, turns, away)
    bone_along = (hu[levels] > _BONE_HU)[:, rows, columns] & shown
    last = np.where(lung_along, np.arange(len(away)), -1).max(2)
    bone_along &= np.arange(len(away)) > last[..., None]
    first = np.where(bone_along.any(2), bone_along.argmax(2), len(away)).astype(np.float32)
    window = [2 * round(_RIB_MM / voxel_mm) + 1, 2 * round(_RIB_DEG / _TURN_DEG) + 1]
    ribs = ndimage.minimum_filter(first, window, mode="nearest")
    seen = (last >= 0) & (ribs < len(away))
    if not seen.any():
        return np.zeros_like(lung)
    least, most = (mm / voxel_mm for mm in _USUAL_MM)
    usual = np.clip(np.percentile((ribs - last)[seen], _USUAL_SHARE), least, most)
    wall = ribs - usual
    seen[len(seen) - round(_APEX_MM / voxel_mm) :] = False
    deep = seen & (wall - last > _BITE_MM / voxel_mm)
    return _painted(
        np.where(deep, last, 0), np.where(deep, wall, 0), lung.shape, levels, centre, side, turns_deg[0]
    )


def _painted(
    start: np.ndarray,
    end: np.ndarray,
    shape: tuple[int, ...],
    levels: slice,
    centre: tuple[float, float],
    side: int,
    from_deg: float,
) -> np.ndarray:
    """(z, y, x) bool: between two distances (levels, turns) in voxels from the axis."""
    y, x = np.mgrid[: shape[1], : shape[2]]
    dy, dx = y - centre[0], side * (x - centre[1])
    away = np.hypot(dy, dx)
    beyond_deg = (np.rad2deg(np.arctan2(dy, dx)) - from_deg + 90) % 360 - 90
    turn = np.rint(beyond_deg / _TURN_DEG).astype(int)
    in_view = (turn >= 0) & (turn < start.shape[1])
    out = np.zeros(shape, bool)
    turns, distance = turn[in_view], away[in_view]
    out[levels][:, in_view] = (distance > start[:, turns]) & (distance <= end[:, turns])
    return out
