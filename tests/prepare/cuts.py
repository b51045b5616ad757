"""Fields of view that end inside the lungs."""

import numpy as np

from ctssl.prepare.lungs import FACES, Lungs


def cut_at(lungs: Lungs, **depth_mm: float) -> Lungs:
    """LPS lungs without what lies beyond planes so deep inside their box, by face: cut_at(l, bottom=80)."""
    low, high = np.zeros(3, int), np.array(lungs.mask.shape)
    for face, depth in depth_mm.items():
        axis, far = divmod(FACES.index(face), 2)
        where = np.flatnonzero((lungs.mask > 0).any(tuple(d for d in range(3) if d != 2 - axis)))
        voxels = round(depth / lungs.grid.spacing_mm)
        (high if far else low)[2 - axis] = where[-1] - voxels if far else where[0] + voxels
    part = tuple(slice(lo, hi) for lo, hi in zip(low, high, strict=True))
    hu = None if lungs.hu is None else lungs.hu[part]
    return Lungs(lungs.mask[part], lungs.grid.crop(low, high), hu=hu)
