"""Which lung is which: air inside the chest parted into right (1) and left (2).

Arrays are upright: z toward the head, y toward the back, x toward the subject's left.
"""

import numpy as np
from scipy import ndimage

from ctssl.prepare.grid import LEFT, RIGHT

_BONE_HU = 150.0
_SPINE_MM = 15.0
_SHARE = 0.12  # of all lung that a part must have to be taken for one of two lungs
_APART_MM = 60.0  # the middles of two lungs lie farther apart from right to left
_BESIDE_MM = 45.0
_BOTH = 0.25  # share of the air on the lesser side of the spine from which it is two lungs
_LEVELS = tuple((erode, hu) for erode in (0.0, 2.0, 4.0, 6.0, 9.0, 12.0) for hu in (-400, -600, -700, -780))


def spine_x(hu: np.ndarray) -> float:
    """Voxel along x of the spine: where there is most bone along z."""
    bone = np.minimum((hu > _BONE_HU).sum(0), 10000).astype(np.float32)
    thick = ndimage.uniform_filter(bone, 9)
    return float(np.unravel_index(thick.argmax(), thick.shape)[1])


def part_sides(air: np.ndarray, hu: np.ndarray, middle: float, voxel_mm: float) -> np.ndarray:
    """(z, y, x) uint8: 1 in the right lung, 2 in the left, parted where they touch.

    What touches is made smaller and darker until two large parts stand apart; from these the rest is filled,
    across steps in HU last, so that the border lies on the bright line between the lungs.
    A single lung gets its side from the spine.

    Args:
        air: (z, y, x) bool, both lungs.
        hu: (z, y, x), smoothed a little.
        middle: voxel along x of the spine.
        voxel_mm: edge of a voxel.
    """
    out = np.zeros(air.shape, np.uint8)
    box = ndimage.find_objects(air.astype(np.uint8))[0]
    middle -= box[2].start
    air, hu = air[box], hu[box]
    seeds = _seeds(air, hu, middle, voxel_mm)
    out[box] = seeds if np.array_equal(seeds > 0, air) else _flood(seeds, air, hu)
    return out


def _seeds(air: np.ndarray, hu: np.ndarray, middle: float, voxel_mm: float) -> np.ndarray:
    """(z, y, x) uint8: parts of the lungs that surely are of one side."""
    depth: np.ndarray | None = None
    for erosion_mm, darker in _LEVELS:
        inside = air
        if erosion_mm:
            if depth is None:
                depth = ndimage.distance_transform_edt(np.pad(air, 1, mode="edge"), sampling=voxel_mm)
                depth = depth[1:-1, 1:-1, 1:-1].astype(np.float32)
            inside = depth > erosion_mm
        if darker != -400:
            inside = inside & (hu < darker)
        labels, count = ndimage.label(inside)
        size = np.bincount(labels.ravel(), minlength=count + 1)
        size[0] = 0
        large = np.flatnonzero(size > _SHARE * size.sum())
        if len(large) < 1:
            continue
        x = {k: ndimage.center_of_mass(labels == k)[2] for k in large}
        between = (max(x.values()) + min(x.values())) / 2
        apart = (max(x.values()) - min(x.values())) * voxel_mm >= _APART_MM
        if apart and (inside is air or abs(between - middle) * voxel_mm < _BESIDE_MM):
            break  # what had to be cut is two lungs only when the spine lies between
    else:
        return _by_the_spine(air, middle)
    side = np.zeros(count + 1, np.uint8)
    for k in large:
        side[k] = RIGHT if x[k] < between else LEFT
    return side[labels]


def _by_the_spine(air: np.ndarray, middle: float) -> np.ndarray:
    """(z, y, x) uint8: one lung on the side where most of it lies; cut at the spine if much lies on both."""
    x = np.arange(air.shape[2])
    beside = air.sum((0, 1))
    right = beside[x < middle].sum() / beside.sum()
    if min(right, 1 - right) > _BOTH:
        side = np.where(x < middle, RIGHT, LEFT)
    else:
        side = np.full(len(x), RIGHT if right > 0.5 else LEFT)
    return np.where(air, side, 0).astype(np.uint8)


def _flood(seeds: np.ndarray, air: np.ndarray, hu: np.ndarray) -> np.ndarray:
    """(z, y, x) uint8: every voxel of air with the side of the seed that reaches it by the smoothest way."""
    cost = np.clip((hu + 1000) / 4, 0, 200).astype(np.uint8)
    cost[~air] = 255
    flooded = ndimage.watershed_ift(cost, seeds.astype(np.int8))
    return np.where(air, flooded, 0).astype(np.uint8)
