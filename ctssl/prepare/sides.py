"""Which lung is which: the spine, and air inside the chest parted into right (1) and left (2).

Arrays are upright: z toward the head, y toward the back, x toward the subject's left.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ctssl.errors import ScanError
from ctssl.prepare.grid import LEFT, RIGHT

_BONE_HU = 150.0
_COLUMN_MM = 18.0  # across a column of bone that lies inside any spine
_DISC_MM = 10.0  # along the spine there is bone again after a disc
_BONE_SHARE = 0.1  # of the column's area, where it is bone
_SPINE_SHARE = 0.93  # of the height that is bone: spines 0.94 to 1.0; ribs to 0.78, a phantom's to 0.92
_LARGE_SHARE = 0.1  # of the largest part of the air, for parts that tell where the lungs lie
_BACK = 0.6  # of the lungs' box from front to back; before it lie arms
_ASIDE_MM = 20.0  # farther beside the lungs' box lie arms and rails of a table
_SHARE = 0.12  # of all lung that a part must have to be taken for one of two lungs
_APART_MM = 60.0  # the middles of two lungs lie farther apart from right to left
_BESIDE_MM = 45.0
_BOTH = 0.25  # share of the air on the lesser side of the spine from which it is two lungs
_LEVELS = tuple((erode, hu) for erode in (0.0, 2.0, 4.0, 6.0, 9.0, 12.0) for hu in (-400, -600, -700, -780))


@dataclass(frozen=True)
class Spine:
    """Where the spine is.

    Attributes:
        x: voxel along x.
        sure: whether it is one; where the image shows no spine, it is the ribs' or a rail's place.
    """

    x: float
    sure: bool


def find_spine(hu: np.ndarray, air: np.ndarray, voxel_mm: float) -> Spine:
    """The column with most bone, and that without gaps along z, at the back of the lungs and not beside them.

    Args:
        hu: (z, y, x), smoothed a little.
        air: (z, y, x) bool, air inside the body; not empty.
        voxel_mm: edge of a voxel.
    """
    levels, rows, columns = _box_of_large(air)
    aside = round(_ASIDE_MM / voxel_mm)
    behind = slice(rows.start + round(_BACK * (rows.stop - rows.start)), None)
    between = slice(max(columns.start - aside, 0), columns.stop + aside)
    bone = np.zeros((levels.stop - levels.start, *hu.shape[1:]), np.float32)
    bone[:, behind, between] = hu[levels, behind, between] > _BONE_HU
    width = max(3, round(_COLUMN_MM / voxel_mm))
    bone = ndimage.uniform_filter(bone, (0, width, width))
    disc = max(1, round(_DISC_MM / voxel_mm))
    share = (ndimage.uniform_filter1d(bone, disc, 0) > _BONE_SHARE).mean(0)
    best = share**2 * bone.sum(0)
    y, x = np.unravel_index(best.argmax(), best.shape)
    return Spine(float(x), bool(share[y, x] >= _SPINE_SHARE))


def _box_of_large(air: np.ndarray) -> tuple[slice, slice, slice]:
    """Box of the air's large parts: the lungs, and maybe gas below them."""
    labels, _ = ndimage.label(air)
    size = np.bincount(labels.ravel())
    size[0] = 0
    large = (size >= _LARGE_SHARE * size.max())[labels]
    z, y, x = ndimage.find_objects(large.view(np.uint8))[0]
    return z, y, x


def part_sides(air: np.ndarray, hu: np.ndarray, spine: Spine, voxel_mm: float) -> np.ndarray:
    """(z, y, x) uint8: 1 in the right lung, 2 in the left, parted where they touch.

    What touches is made smaller and darker until two large parts stand apart; from these the rest is filled,
    across steps in HU last, so that the border lies on the bright line between the lungs.
    A single lung gets its side from the spine.

    Args:
        air: (z, y, x) bool, both lungs.
        hu: (z, y, x), smoothed a little.
        spine: needed where not two lungs stand apart.
        voxel_mm: edge of a voxel.

    Raises:
        ScanError: the image shows one lung and no spine.
    """
    out = np.zeros(air.shape, np.uint8)
    box = ndimage.find_objects(air.astype(np.uint8))[0]
    spine = Spine(spine.x - box[2].start, spine.sure)
    air, hu = air[box], hu[box]
    seeds = _seeds(air, hu, spine, voxel_mm)
    out[box] = seeds if np.array_equal(seeds > 0, air) else _flood(seeds, air, hu)
    return out


def _seeds(air: np.ndarray, hu: np.ndarray, spine: Spine, voxel_mm: float) -> np.ndarray:
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
        beside = spine.sure and abs(between - spine.x) * voxel_mm < _BESIDE_MM
        if apart and (inside is air or beside):
            break  # what had to be cut is two lungs only when the spine lies between
    else:
        return _by_the_spine(air, spine)
    side = np.zeros(count + 1, np.uint8)
    for k in large:
        side[k] = RIGHT if x[k] < between else LEFT
    return side[labels]


def _by_the_spine(air: np.ndarray, spine: Spine) -> np.ndarray:
    """(z, y, x) uint8: one lung on the side where most of it lies; cut at the spine if much lies on both."""
    if not spine.sure:
        raise ScanError(
            "which lung this is is not certain: the scan shows one lung and no spine",
            "give a mask in the manifest's mask column, or the scan before it was cropped",
        )
    x = np.arange(air.shape[2])
    beside = air.sum((0, 1))
    right = beside[x < spine.x].sum() / beside.sum()
    if min(right, 1 - right) > _BOTH:
        side = np.where(x < spine.x, RIGHT, LEFT)
    else:
        side = np.full(len(x), RIGHT if right > 0.5 else LEFT)
    return np.where(air, side, 0).astype(np.uint8)


def _flood(seeds: np.ndarray, air: np.ndarray, hu: np.ndarray) -> np.ndarray:
    """(z, y, x) uint8: every voxel of air with the side of the seed that reaches it by the smoothest way."""
    cost = np.clip((hu + 1000) / 4, 0, 200).astype(np.uint8)
    cost[~air] = 255
    flooded = ndimage.watershed_ift(cost, seeds.astype(np.int8))
    return np.where(air, flooded, 0).astype(np.uint8)
