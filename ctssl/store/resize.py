"""Volumes on another number of voxels: each new voxel is the mean over what it covers."""

from collections.abc import Sequence

import numpy as np

from ctssl.store.layout import AIR_HU


def resized(hu: np.ndarray, extent: Sequence[int], field: Sequence[float] | None = None) -> np.ndarray:
    """int16 HU on `extent` voxels along z, y, x, which share out `field` around the middle of the volume.

    A new voxel that is larger than an old one is the mean of what it covers; a smaller one is interpolated
    linearly. What lies beyond the volume is air.

    Args:
        hu: (z, y, x) HU.
        extent: new voxels along z, y, x.
        field: old voxels along z, y, x, fractions too; None: all of them, whatever that does to proportions.
    """
    out = hu.astype(np.float32) - AIR_HU
    for axis, (old, new) in enumerate(zip(hu.shape, extent, strict=True)):
        weights = cover(old, new, old if field is None else field[axis])
        out = np.moveaxis(np.tensordot(weights, out, (1, axis)), 0, axis)
    return np.rint(out + AIR_HU).astype(np.int16)


def cover(old: int, new: int, field: float) -> np.ndarray:
    """(new, old) float32: how much of each old voxel is in each new one; rows sum to 1, or 0 beyond.

    Args:
        old: voxels along an axis.
        new: voxels that share out `field` old ones around their middle.
        field: see there.
    """
    width = field / new
    centres = old / 2 + (np.arange(new) + 0.5 - new / 2) * width
    half = max(width, 1.0) / 2  # the mean over one voxel's width is linear interpolation
    edges = np.arange(old)
    low = np.maximum(edges, centres[:, None] - half)
    high = np.minimum(edges + 1, centres[:, None] + half)
    weights = (high - low).clip(0)
    inside = (centres > 0) & (centres < old)
    return (weights * inside[:, None] / weights.sum(1, keepdims=True).clip(1e-9)).astype(np.float32)
