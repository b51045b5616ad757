"""The step that turns a patch by whole quarters and mirrors it; exact, so targets can be turned alike."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ctssl.config.augment import Augment
from ctssl.train.augment.step import Frame, Share, Stream
from ctssl.train.random import uniform


@dataclass(frozen=True)
class Turn:
    """turn: quarter turns about z, then flips.

    Attributes:
        quarters: (G,) long, 0 to 3, from y to x as numpy's rot90.
        flips: (G, 3) bool, along z, y, x.
    """

    quarters: Tensor
    flips: Tensor

    @classmethod
    def draw(cls, options: Augment, keys: Tensor, frame: Frame) -> "Turn":
        """Source: VoCo and PCRL (flips and turns), Models Genesis (flips in rounds, all three axes)."""
        coin, which = uniform(keys, Stream.TURN, 2).unbind(1)
        turned = coin < options.turn_probability
        flips = _rounds(options, keys) if options.flip_rounds else _each(options, keys)
        return cls((1 + (which * 3).long()) * turned, flips)

    def apply(self, hu: Tensor, share: Share, frame: Frame) -> Tensor:
        """Turned patches."""
        return turn(hu, self.quarters[share.owner], self.flips[share.owner])


def turn(values: Tensor, quarters: Tensor, flips: Tensor) -> Tensor:
    """(M, Z, Y, X) turned about z by quarters (M,) from y to x, then flipped along z, y, x (M, 3).

    Raises:
        ValueError: quarters of patches whose y and x differ in length.
    """

    def chosen(rows: Tensor, new: Tensor, old: Tensor) -> Tensor:
        return torch.where(rows[:, None, None, None], new, old)

    if values.shape[2] == values.shape[3]:
        values = chosen(quarters % 2 == 1, values.flip(3).mT, values)
        values = chosen(quarters >= 2, values.flip(2, 3), values)
    elif bool(quarters.any()):
        msg = f"quarter turns about z need as many voxels along y as along x, not {tuple(values.shape[2:])}"
        raise ValueError(msg)
    for axis in range(3):
        values = chosen(flips[:, axis], values.flip(axis + 1), values)
    return values


def _each(options: Augment, keys: Tensor) -> Tensor:
    """(G, 3) bool: a coin for each axis."""
    return uniform(keys, Stream.FLIP, 3) < options.flip_probability


def _rounds(options: Augment, keys: Tensor) -> Tensor:
    """(G, 3) bool: while a coin falls, but at most `flip_rounds` times, one axis at random is flipped."""
    coin, which = uniform(keys, Stream.FLIP, 2 * options.flip_rounds).chunk(2, 1)
    goes_on = (coin < options.flip_probability).cumprod(1)  # (G, rounds)
    axes = (which * 3).long()[:, :, None] == torch.arange(3, device=keys.device)  # (G, rounds, 3)
    return (axes * goes_on[:, :, None]).sum(1) % 2 == 1
