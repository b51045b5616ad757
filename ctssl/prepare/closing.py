"""Lungs closed over vessels, holes, and disease as dense as tissue.

Arrays are upright: z toward the head, y toward the back, x toward the subject's left.
"""

import numpy as np
from scipy import ndimage

from ctssl.prepare.grid import LEFT, RIGHT
from ctssl.prepare.ribs import bites

_VESSEL_MM = 8.0  # radius of the ball that enters no gap to be closed
_DISEASE_MM = 28.0  # the same in lungs with dense disease at the ribs
_DISEASED = 0.005  # share of a lung that is missing at the ribs; healthy ones miss less than 0.003
_TISSUE_HU = 30.0


def closed(lungs: np.ndarray, hu: np.ndarray, voxel_mm: float) -> np.ndarray:
    """(z, y, x) uint8: the lungs with vessels and holes closed, and out to the ribs where disease is dense.

    Args:
        lungs: (z, y, x) uint8, 1 right, 2 left: air in the lungs.
        hu: (z, y, x), smoothed a little.
        voxel_mm: edge of a voxel.
    """
    out = np.zeros_like(lungs)
    for label in (RIGHT, LEFT):
        _close(lungs == label, label, out, voxel_mm, _VESSEL_MM)
    missing = bites(out, hu, voxel_mm)
    for label in (RIGHT, LEFT):
        lung, bite = out == label, missing == label
        if np.count_nonzero(bite) > _DISEASED * np.count_nonzero(lung):
            edge_hu = (np.median(hu[lung]) + _TISSUE_HU) / 2  # ground glass ends at a higher value than lung
            rim = ndimage.binary_dilation(lung) & (hu < edge_hu)
            _close(lung | bite | (rim & (out == 0)), label, out, voxel_mm, _DISEASE_MM)
    return out


def _close(lung: np.ndarray, label: int, out: np.ndarray, voxel_mm: float, radius_mm: float) -> None:
    """Nothing; writes the lung with vessels and holes closed where `out` is still 0."""
    if not lung.any():
        return
    box = ndimage.find_objects(lung.astype(np.uint8))[0]
    pad = int(np.ceil(radius_mm / voxel_mm)) + 1
    padded = np.pad(lung[box], pad, mode="constant")
    for axis, (cut, n) in enumerate(zip(box, lung.shape, strict=True)):
        for at_edge, end, inner in (
            (cut.start == 0, slice(pad), pad),
            (cut.stop == n, slice(-pad, None), -pad - 1),
        ):
            if at_edge:  # the lung goes on beyond the image
                where: list[slice] = [slice(None)] * 3
                where[axis] = end
                padded[tuple(where)] = np.take(padded, [inner], axis)
    grown = ndimage.distance_transform_edt(~padded, sampling=voxel_mm) <= radius_mm
    closed = ndimage.distance_transform_edt(grown, sampling=voxel_mm) > radius_mm
    closed = closed[tuple(slice(pad, -pad) for _ in range(3))] | lung[box]
    for plane in closed:
        ndimage.binary_fill_holes(plane, output=plane)
    part = out[box]
    part[closed & (part == 0)] = label
