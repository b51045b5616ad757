"""The windpipe and the main bronchi of a chest, which are not lung.

Arrays are upright: z toward the head, y toward the back, x toward the subject's left.
"""

import numpy as np
from scipy import ndimage

from ctssl.prepare.upright import IN_PLANE

_LUMEN_HU = -700.0  # the thin wall between windpipe and lung lies above
_DARK_HU = -900.0
_AREA_MM2 = (40.0, 750.0)  # cross-section of a windpipe
_ASIDE_MM = 45.0  # from the spine to the windpipe, right or left
_LEAST_MM = 25.0  # of windpipe that can be told from chance
_FORK_MM = 20.0  # from the windpipe's end to where the bronchi surely are two
_WIDE_MM = 9.0  # a bronchus holds no ball of this radius, a lung does
_REACH_MM = 75.0  # of the main bronchi from the windpipe's end
_WALL_MM = 2.0


def airways(hu: np.ndarray, air: np.ndarray, middle: float, voxel_mm: float) -> np.ndarray:
    """(z, y, x) bool: windpipe and main bronchi with their walls; empty where no windpipe is seen.

    Args:
        hu: (z, y, x), smoothed a little.
        air: (z, y, x) bool, air inside the body.
        middle: voxel along x of the spine.
        voxel_mm: edge of a voxel.
    """
    trachea = _windpipe(hu, air, middle, voxel_mm)
    if not trachea.any():
        return trachea
    low, high = _reach(trachea, voxel_mm)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    near, start = air[box], trachea[box]
    deep = ndimage.distance_transform_edt(near, sampling=voxel_mm) > _WIDE_MM
    wide = ndimage.distance_transform_edt(~deep, sampling=voxel_mm) <= _WIDE_MM
    narrow = near & ~wide & (hu[box] < _DARK_HU)
    fork = start | (narrow & _about_end(start, voxel_mm))
    way = fork | narrow
    found = ndimage.binary_dilation(fork, iterations=round(_REACH_MM / voxel_mm), mask=way)
    wall = ndimage.binary_dilation(found, iterations=max(1, round(_WALL_MM / voxel_mm)))
    out = np.zeros_like(air)
    out[box] = found | (wall & ~wide) | ndimage.binary_dilation(start)
    return out


def _windpipe(hu: np.ndarray, air: np.ndarray, middle: float, voxel_mm: float) -> np.ndarray:
    """(z, y, x) bool: the longest dark, round thing near the middle that goes along z."""
    labels, count = ndimage.label(air & (hu < _LUMEN_HU), IN_PLANE)
    if count == 0:
        return np.zeros_like(air)
    area = np.bincount(labels.ravel(), minlength=count + 1) * voxel_mm**2
    boxes = ndimage.find_objects(labels)
    good = np.zeros(count + 1, bool)
    for number in np.flatnonzero((area >= _AREA_MM2[0]) & (area <= _AREA_MM2[1])):
        if number == 0:
            continue
        plane = boxes[number - 1]
        tall, broad = (cut.stop - cut.start for cut in plane[1:])
        round_enough = (
            max(tall, broad) <= 3 * min(tall, broad) and area[number] / voxel_mm**2 > 0.45 * tall * broad
        )
        centre = (plane[2].start + plane[2].stop - 1) / 2
        if round_enough and abs(centre - middle) * voxel_mm < _ASIDE_MM:
            good[number] = hu[plane][labels[plane] == number].min() < _DARK_HU
    pieces, _ = ndimage.label(good[labels])
    spans = [box[0].stop - box[0].start for box in ndimage.find_objects(pieces)]
    if not spans or max(spans) * voxel_mm < _LEAST_MM:
        return np.zeros_like(air)
    return pieces == int(np.argmax(spans)) + 1


def _about_end(trachea: np.ndarray, voxel_mm: float) -> np.ndarray:
    """(z, y, x) bool: the ball around the windpipe's lower end."""
    z, y, x = np.nonzero(trachea)
    end = z.min()
    centre = end, y[z == end].mean(), x[z == end].mean()
    axes = np.ogrid[tuple(slice(n) for n in trachea.shape)]
    return sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) <= (_FORK_MM / voxel_mm) ** 2


def _reach(trachea: np.ndarray, voxel_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """First and past-the-last voxel (3,) z, y, x of the box that holds windpipe and main bronchi."""
    box = ndimage.find_objects(trachea.astype(np.uint8))[0]
    margin = int(np.ceil((_REACH_MM + _WIDE_MM) / voxel_mm))
    low = [max(cut.start - margin, 0) for cut in box]
    high = [min(cut.stop + margin, n) for cut, n in zip(box, trachea.shape, strict=True)]
    return np.array(low), np.array(high)
