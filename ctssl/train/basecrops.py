"""Base crops side by side across the lungs and crops at random among them, and how far these overlap.

All crops of a scan in a step lie at one level, so that they overlap by areas of the plane y, x. Where the
grid lies is drawn anew in each step, since at the atlas's spacing it is lower than the lungs, and may be
narrower: so every part of them is shown in time.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ctssl.store.boxes import Box
from ctssl.train.augment.step import Stream
from ctssl.train.cuts import Extent, corners
from ctssl.train.random import uniform


@dataclass(frozen=True)
class BaseCrops:
    """A grid of base crops somewhere in the lungs' own box, and random crops of the same size.

    They have the voxels of the box: whatever the size of the lungs, a crop shows the same millimetres.

    Attributes:
        extent: voxels of every crop along z, y, x.
        grid: base crops along y and x.
        randoms: random crops of a scan in a step; their centres lie between those of the bases.

    Source: VoCo (CVPR 2024), Luffy03/VoCo@ba7b7bd, which stretches each scan over
    the grid and has crops as high as the scan.
    """

    extent: Extent
    grid: tuple[int, int]
    randoms: int

    @property
    def bases(self) -> int:
        """Base crops of a scan."""
        return self.grid[0] * self.grid[1]

    @property
    def number(self) -> int:
        """Crops of a scan in a step: the bases, x fastest, then the random ones."""
        return self.bases + self.randoms

    def volumes(self, box: Box, keys: Tensor, scan_key: Tensor) -> np.ndarray:
        """(number, Z, Y, X) int16 HU of one scan.

        Args:
            box: of the scan.
            keys: (number,) of the crops; those of bases are not used.
            scan_key: (1,) of the place of the grid.
        """
        low = corner(box, self, scan_key)
        lines = [np.arange(n) * edge for n, edge in zip(self.grid, self.extent[1:], strict=True)]
        bases = np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(-1, 2)
        places = np.concatenate([bases, random_places(keys[self.bases :], self).numpy()])
        block = box.read("volume", low, low + _size(self))
        _, height, width = self.extent
        return np.stack([block[:, y : y + height, x : x + width] for y, x in places])


def corner(box: Box, cut: BaseCrops, scan_key: Tensor) -> np.ndarray:
    """(3,) first voxel z, y, x of the grid, drawn inside the lungs' own box, by the key (1,) of the scan.

    Along an axis where the lungs are smaller than the grid they are in its middle.
    """
    draws = uniform(scan_key, Stream.CROP, 3).double().numpy()
    return corners(box, draws, _size(cut))[0]


def random_places(keys: Tensor, cut: BaseCrops) -> Tensor:
    """(M, 2) long: voxels y, x from the corner of the grid to that of each random crop, by its key (M,)."""
    free = (_size(cut) - cut.extent)[1:] + 1
    # float32 could round up to the end, which is out of the grid
    draws = uniform(keys, Stream.CROP, 2).double()
    return torch.stack([draws[:, axis] * int(room) for axis, room in enumerate(free)], 1).long()


def overlaps(keys: Tensor, cut: BaseCrops) -> Tensor:
    """(M, bases) float32: the share of each random crop that lies in each base, x fastest; rows sum to 1."""
    places, shares = random_places(keys, cut), []
    for axis, (count, edge) in enumerate(zip(cut.grid, cut.extent[1:], strict=True)):
        starts = torch.arange(count, device=keys.device) * edge
        apart = (places[:, axis, None] - starts).abs()  # (M, count)
        shares.append((edge - apart).clamp(min=0).float() / edge)
    along_y, along_x = shares
    return (along_y[:, :, None] * along_x[:, None, :]).flatten(1)


def _size(cut: BaseCrops) -> np.ndarray:
    """(3,) voxels of the grid along z, y, x."""
    return np.array(cut.extent) * [1, *cut.grid]
