"""Steps that spoil a patch for a network to repair: shuffling in small blocks, painting over.

Source: Models Genesis (MedIA 2021), local pixel shuffling, in-painting and out-painting; PCRL (ICCV 2021).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ctssl.config.augment import Augment
from ctssl.train.augment.step import Frame, Share, Stream, between, row, rows_of, spread
from ctssl.train.random import uniform

BLOCKS = 5
"""Painted blocks, at most."""

GO_ON = 0.95
"""Probability of each further block."""

MARGIN = 3
"""Voxels between a painted block and the patch's faces, at least."""


CACHED_NUMBERS = 2**19
"""Voxels of blocks that are put in order at a time on a CPU: each takes about 70 bytes in between."""

GPU_NUMBERS = 2**24
"""The same on a GPU."""


@dataclass(frozen=True)
class Shuffle:
    """shuffle: the voxels of small blocks change places.

    Attributes:
        active: (G,) bool.
        keys: (G,) of the blocks.
        blocks: how many.
        longest: voxels of the longest side along z, y, x.
    """

    active: Tensor
    keys: Tensor
    blocks: int
    longest: tuple[int, int, int]

    @classmethod
    def draw(cls, options: Augment, keys: Tensor, frame: Frame) -> "Shuffle":
        """Whether; where follows from the keys."""
        active = uniform(keys, Stream.SHUFFLE, 1)[:, 0] < options.shuffle_probability
        z, y, x = (max(1, int(e * options.shuffle_share)) for e in frame.extent)
        return cls(active, keys, options.shuffle_blocks, (z, y, x))

    def apply(self, hu: Tensor, share: Share, frame: Frame) -> Tensor:
        """Shuffled patches."""
        numbers = CACHED_NUMBERS if hu.device.type == "cpu" else GPU_NUMBERS
        together = max(1, numbers // (self.blocks * math.prod(self.longest)))
        for rows in rows_of(self.active[share.owner]).split(together):
            mine = share.owner[rows]
            old = hu[rows]
            places = shuffled(self.keys[mine], frame.extent, self.blocks, self.longest)
            new = old.flatten(1).gather(1, places).view_as(old)
            hu.index_copy_(0, rows, torch.where(spread(self.active[mine]), new, old))
        return hu


def shuffled(
    keys: Tensor, extent: tuple[int, int, int], blocks: int, longest: tuple[int, int, int]
) -> Tensor:
    """(M, V) long: from which voxel of the patch each voxel's value comes.

    Each block has sides of 1 to `longest` voxels, lies anywhere, and has a random order of its voxels. All
    read the patch as it was; where blocks overlap, the last one counts, as in the release.
    """
    count, room, device = len(keys), longest[0] * longest[1] * longest[2], keys.device
    numbers = uniform(keys, Stream.SHUFFLE_BLOCKS, blocks * 6).view(count, blocks, 2, 3)
    sides = 1 + (numbers[:, :, 0] * row(longest, keys)).long()  # (M, B, 3)
    free = row(extent, keys) - sides + 1
    corners = (numbers[:, :, 1] * free).long()
    axes = [torch.arange(side, device=device) for side in longest]
    steps = torch.cartesian_prod(*axes).view(room, 3)  # all voxels of the longest block
    inside = (steps < sides[:, :, None]).all(3)  # (M, B, room)
    order = uniform(keys, Stream.SHUFFLE_ORDER, blocks * room).view(count, blocks, room)
    order = torch.where(inside, order, 2.0).argsort(2)  # a block's own voxels first
    source = order.gather(2, (inside.cumsum(2) - 1).clamp_min(0))  # of the n-th own voxel, the n-th in order
    weights = row([extent[1] * extent[2], extent[2], 1], keys)
    target = ((corners[:, :, None] + steps) * weights).sum(3).where(inside, 0)
    block = torch.arange(blocks, device=device)[:, None]
    code = (block * room + source).where(inside, -1)  # the later block is the larger
    last = torch.full((count, extent[0] * extent[1] * extent[2]), -1, device=device)
    last = last.scatter_reduce(1, target.flatten(1), code.flatten(1), "amax")  # (M, V)
    start = (corners * weights).sum(2)  # (M, B)
    step = (steps * weights).sum(1)  # (room,)
    moved = start.gather(1, (last // room).clamp_min(0)) + step[last % room]
    return torch.where(last >= 0, moved, torch.arange(last.shape[1], device=device))


@dataclass(frozen=True)
class Paint:
    """paint: blocks of noise (inside), or noise around blocks (outside).

    Attributes:
        active: (G,) bool.
        inside: (G,) bool.
        corners: (G, BLOCKS, 3) first voxels z, y, x of the blocks.
        sides: (G, BLOCKS, 3) voxels; 0 for a block that is not there.
    """

    active: Tensor
    inside: Tensor
    corners: Tensor
    sides: Tensor

    @classmethod
    def draw(cls, options: Augment, keys: Tensor, frame: Frame) -> "Paint":
        """Sides are a sixth to a third of the patch's inside, four to three sevenths less than it outside."""
        coin, which = uniform(keys, Stream.PAINT, 2).unbind(1)
        inside = which < options.inpaint_probability
        numbers = uniform(keys, Stream.PAINT_BLOCKS, BLOCKS * 7).view(len(keys), BLOCKS, 7)
        extent = row(frame.extent, keys)
        small = _whole(numbers[..., 1:4], extent // 6, extent // 3)
        large = extent - _whole(numbers[..., 1:4], 3 * extent // 7, 4 * extent // 7)
        sides = torch.where(inside[:, None, None], small, large)
        corners = _whole(numbers[..., 4:7], torch.full_like(extent, MARGIN), extent - sides - MARGIN)
        there = numbers[..., 0] < GO_ON
        there[:, 0] |= ~inside  # outside, at least one block is kept
        there = there.cumprod(1).bool()
        return cls(coin < options.paint_probability, inside, corners, sides * there[..., None])

    def apply(self, hu: Tensor, share: Share, frame: Frame) -> Tensor:
        """Painted patches; the noise is uniform over the window and each patch's own."""
        rows = rows_of(self.active[share.owner])
        mine = share.owner[rows]
        old = hu[rows]
        covered = boxes(self.corners[mine], self.sides[mine], frame.extent)
        painted = (covered == spread(self.inside[mine])) & spread(self.active[mine])
        noise = uniform(share.keys[rows], Stream.PAINT_FIELD, old.shape[1:].numel()).view_as(old)
        new = between(noise, frame.hu_min, frame.hu_max)
        return hu.index_copy_(0, rows, torch.where(painted, new, old))


def boxes(corners: Tensor, sides: Tensor, extent: tuple[int, int, int]) -> Tensor:
    """(M, Z, Y, X) bool: the voxels in any of the K boxes, corners and sides (M, K, 3) in z, y, x."""
    along = []
    for axis, voxels in enumerate(extent):
        line = torch.arange(voxels, device=corners.device)
        start = corners[..., axis, None]
        along.append(((line >= start) & (line < start + sides[..., axis, None])).float())  # (M, K, E)
    z, y, x = along
    return torch.einsum("mkz,mky,mkx->mzyx", z, y, x) > 0


def _whole(uniform: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Whole numbers from low to high, both included."""
    return low + (uniform * (high - low + 1)).long()
