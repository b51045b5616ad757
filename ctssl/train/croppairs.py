"""Two crops of one scan that overlap, of sizes that are drawn, both on the same number of voxels.

What is drawn are the lungs' parts that a pair shows; whatever their size, a network is shown `extent` voxels,
so that a pair may tell it of scale, too.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
from torch import Tensor

from ctssl.store.boxes import Box
from ctssl.store.resize import resized
from ctssl.train.augment.step import Stream
from ctssl.train.cuts import Extent, corners, tissue_share
from ctssl.train.random import uniform

PLACES = 16
"""Places of a second crop that are drawn beside a first. If none overlaps enough, which is rare, it is put
where it overlaps most."""


@dataclass(frozen=True)
class CropPairs:
    """A pair of crops of the lungs' own box.

    A pair one of whose crops has much tissue is placed again, `tries` times in all; if none passes, the one
    with least is taken. Sizes are not drawn again: else small crops, which miss tissue more often, would
    be taken more often.

    Attributes:
        extent: voxels along z, y, x that both become.
        sizes: voxels along z, y, x of the box that a crop may have.
        alike: both crops of a pair have one size; else the second has any of those that can overlap enough.
        least_overlap: intersection over union of a pair is above.
        tissue_hu: a voxel from here on is tissue; half of one if only the voxel above it is.
        most_tissue: share of a crop, as it lies in the box; 1: any.
        tries: places that are drawn.

    Source: PCRL (ICCV 2021, supplement), Luchixiang/PCRL@197bf91, which compares the tissue of the resized
    crop with the voxels of the original one, and cuts a part of the depth away; draws are ours.
    """

    extent: Extent
    sizes: tuple[Extent, ...]
    alike: bool = True
    least_overlap: float = 0.2
    tissue_hu: int = -150
    most_tissue: float = 1.0
    tries: int = 1

    number = 2

    def volumes(self, box: Box, keys: Tensor, scan_key: Tensor) -> np.ndarray:
        """(2, Z, Y, X) int16 HU of one scan.

        Args:
            box: of the scan.
            keys: (2,) of the crops; a pair is drawn as one, from the scan's.
            scan_key: (1,) of sizes and places.
        """
        draws = uniform(scan_key, Stream.CROP, 2 + self.tries * 3 * (1 + PLACES))[0].double().numpy()
        first, second = _sizes(self, draws[:2])
        least, best = np.inf, []
        for places in draws[2:].reshape(self.tries, 1 + PLACES, 3):
            (low,) = corners(box, places[:1], first)
            beside = second_place(box, low, first, second, self.least_overlap, places[1:])
            found = _read(box, ((low, first), (beside, second)))
            share = max(tissue_share(crop, self.tissue_hu) for crop in found)
            if share < least:
                least, best = share, [crop[:-1] for crop in found]
            if least <= self.most_tissue:
                break
        return np.stack([resized(crop, self.extent) for crop in best])


def overlap(low: np.ndarray, first: Extent, places: np.ndarray, second: Extent) -> np.ndarray:
    """(...,) intersection over union of the first crop, at voxel `low`, with seconds at `places` (..., 3)."""
    ends = np.minimum(low + first, places + second)
    shared = (ends - np.maximum(low, places)).clip(0).prod(-1)
    return shared / (prod(first) + prod(second) - shared)


def second_place(
    box: Box, low: np.ndarray, first: Extent, second: Extent, least: float, draws: np.ndarray
) -> np.ndarray:
    """(3,) first voxel of a crop inside the lungs' own box that overlaps one at `low` by more than `least`.

    Any such place is drawn as often as any other: the first that passes of those where each axis leaves
    enough for the overlap, if the others left all.

    Args:
        box: of the scan.
        low: (3,) first voxel z, y, x of the first crop.
        first: its size.
        second: size of the second.
        least: intersection over union; two of these sizes, one inside the other, have more.
        draws: (n, 3) uniform.
    """
    common = np.minimum(first, second)
    shared = least / (1 + least) * (prod(first) + prod(second))  # voxels in both at this overlap
    along = shared * common / common.prod()
    start, free = box.lungs[0], np.diff(box.lungs, axis=0)[0] - second
    lowest = np.where(free < 0, start + free // 2, start)  # longer than the lungs: these in its middle
    highest = lowest + free.clip(0)
    near = np.clip(np.ceil(low + along - second), lowest, highest).astype(int)
    far = np.clip(np.floor(low + first - along), lowest, highest).astype(int)
    places = near + (draws * (far - near + 1)).astype(int)
    passing = np.flatnonzero(overlap(low, first, places, second) > least)
    if len(passing):
        return places[passing[0]]
    return np.clip(low + (np.array(first) - second) // 2, lowest, highest)  # one inside the other


def _sizes(cut: CropPairs, draws: np.ndarray) -> tuple[Extent, Extent]:
    """Those of a pair, by two uniform draws."""
    first = cut.sizes[int(draws[0] * len(cut.sizes))]
    nowhere = np.zeros(3, int)
    fitting = [size for size in cut.sizes if overlap(nowhere, first, nowhere, size) > cut.least_overlap]
    return first, first if cut.alike else fitting[int(draws[1] * len(fitting))]


def _read(box: Box, places: tuple[tuple[np.ndarray, Extent], ...]) -> list[np.ndarray]:
    """(Z + 1, Y, X) HU of each crop with the slice above it, of one piece of the box that holds both."""
    low = np.min([place for place, _ in places], 0)
    end_z, end_y, end_x = np.max([place + size for place, size in places], 0)
    block = box.read("volume", low, (end_z + 1, end_y, end_x))
    inside = [(place - low, place - low + size) for place, size in places]
    return [block[a[0] : b[0] + 1, a[1] : b[1], a[2] : b[2]] for a, b in inside]
