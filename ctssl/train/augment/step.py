"""What the steps of an augmentation share."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, Self

import torch
from torch import Tensor

from ctssl.config.augment import Augment


class Stream(IntEnum):
    """Which random numbers of a key are whose; a new one goes to the end, so that the others stay."""

    GAMMA = 0
    NOISE = 1
    NOISE_FIELD = 2
    WARP = 3
    ELASTIC = 4
    FLIP = 5
    TURN = 6
    BLUR = 7
    SHIFT = 8
    CURVE = 9
    SHUFFLE = 10
    SHUFFLE_BLOCKS = 11
    SHUFFLE_ORDER = 12
    PAINT = 13
    PAINT_BLOCKS = 14
    PAINT_FIELD = 15
    CROP = 16
    DROPOUT = 17
    MIXUP = 18


@dataclass(frozen=True)
class Frame:
    """What patches are like.

    Attributes:
        extent: voxels along z, y, x.
        hu_min: the window's lower end.
        hu_max: its upper end.
    """

    extent: tuple[int, int, int]
    hu_min: float
    hu_max: float


@dataclass(frozen=True)
class Share:
    """Who has which draw.

    Attributes:
        owner: (M,) long, the draw of each patch.
        keys: (M,) long, each patch's own key, of values that differ in each voxel.
    """

    owner: Tensor
    keys: Tensor


class Step(Protocol):
    """One step with the parameters of G draws."""

    @classmethod
    def draw(cls, options: Augment, keys: Tensor, frame: Frame) -> Self:
        """The parameters that follow from G keys."""

    def apply(self, hu: Tensor, share: Share, frame: Frame) -> Tensor:
        """(M, Z, Y, X) float32 HU made of such patches; the given ones may be overwritten."""


def rows_of(chosen: Tensor) -> Tensor:
    """(K,) the numbers of the patches chosen by (M,) bool.

    On a GPU all numbers: to know which are chosen would mean to wait for it, and parameters of those that
    are not chosen leave their values.
    """
    if chosen.device.type == "cpu":
        return chosen.nonzero()[:, 0]
    return torch.arange(len(chosen), device=chosen.device)


def row(values: Sequence[float], like: Tensor) -> Tensor:
    """(n,) these numbers on the device of a tensor, which is not waited for as for a copy from the host."""
    return torch.cat([torch.full((1,), value, device=like.device) for value in values])


def between(uniform: Tensor, low: float, high: float) -> Tensor:
    """Numbers in [low, high) from numbers in [0, 1)."""
    return low + (high - low) * uniform


def spread(values: Tensor) -> Tensor:
    """(K, 1, 1, 1) of (K,)."""
    return values[:, None, None, None]
