"""The 3-D U-Net of Models Genesis and PCRL; tensor names are those of the released weights."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ctssl.networks.batchnorm import GroupedBatchNorm
from ctssl.networks.conv3d import SAFE_EDGE

HALVINGS = 3
"""A side of the input is a multiple of 2^3 voxels."""

WIDTH = 32
"""Channels of the first convolution, as released."""


class WayDown(nn.Module):
    """Four levels down.

    Args:
        norm: batch norm of every convolution.
        width: channels of the first convolution; the lowest level puts out 16 times as many.

    Source: as UNet3D.
    """

    def __init__(self, norm: type[GroupedBatchNorm] = GroupedBatchNorm, width: int = WIDTH) -> None:
        super().__init__()
        self.down_tr64 = Level(norm, 1, width, 2 * width)
        self.down_tr128 = Level(norm, 2 * width, 2 * width, 4 * width)
        self.down_tr256 = Level(norm, 4 * width, 4 * width, 8 * width)
        self.down_tr512 = Level(norm, 8 * width, 8 * width, 16 * width)

    @property
    def levels(self) -> "tuple[Level, ...]":
        """From the input down."""
        return self.down_tr64, self.down_tr128, self.down_tr256, self.down_tr512

    def down(self, x: Tensor, groups: Sequence[int] | None = None) -> list[Tensor]:
        """What each level puts out: (B, 2W, Z, Y, X), ..., (B, 16W, Z/8, Y/8, X/8).

        Args:
            x: (B, 1, Z, Y, X) in [0, 1], each side a multiple of 8.
            groups: sizes of the batch norm groups while training; one group when None.
        """
        if any(side % 2**HALVINGS for side in x.shape[2:]):
            msg = f"each side is a multiple of {2**HALVINGS} voxels, but the input has {tuple(x.shape[2:])}"
            raise ValueError(msg)
        first, *others = self.levels
        found = [first(x, groups)]
        for level in others:
            found.append(level(functional.max_pool3d(found[-1], 2), groups))
        return found

    def bottleneck(self, x: Tensor, groups: Sequence[int] | None = None) -> Tensor:
        """(B, 16W, Z/8, Y/8, X/8): the lowest level's output; its mean over space is the feature."""
        return self.down(x, groups)[-1]


class UNet3D(WayDown):
    """Four levels down, three up, a sigmoid; 19,073,665 parameters, of which 7,027,776 lead down.

    Args:
        batch_statistics: in evaluation mode, too, normalise by the statistics of the batch, as released.
            An output then depends on what else is in its batch.
        width: channels of the first convolution.

    Source: Models Genesis (MICCAI 2019), layers of MrGiovanni/ModelsGenesis@12f7feb; PCRL (ICCV 2021)
    has the same network.
    """

    def __init__(self, *, batch_statistics: bool = False, width: int = WIDTH) -> None:
        norm = BatchStatisticsNorm if batch_statistics else GroupedBatchNorm
        super().__init__(norm, width)
        self.up_tr256 = Rising(norm, 16 * width, 8 * width)
        self.up_tr128 = Rising(norm, 8 * width, 4 * width)
        self.up_tr64 = Rising(norm, 4 * width, 2 * width)
        self.out_tr = Output(2 * width)

    def forward(self, x: Tensor, groups: Sequence[int] | None = None) -> Tensor:
        """(B, 1, Z, Y, X) in [0, 1]: the reconstruction of volumes (B, 1, Z, Y, X) in [0, 1].

        Args:
            x: each side a multiple of 8.
            groups: sizes of the batch norm groups while training; one group when None.
        """
        return self.up(self.down(x, groups), groups)

    def up(self, maps: Sequence[Tensor], groups: Sequence[int] | None = None) -> Tensor:
        """(B, 1, Z, Y, X) in [0, 1], made of maps as `down` gives them; these need not be one input's.

        Args:
            maps: of each level, from the input down.
            groups: sizes of the batch norm groups while training; one group when None.
        """
        *skips, x = maps
        rising: tuple[Rising, ...] = (self.up_tr256, self.up_tr128, self.up_tr64)
        for rise, skip in zip(rising, reversed(skips), strict=True):
            x = rise(x, skip, groups)
        return self.out_tr(x)


class BatchStatisticsNorm(GroupedBatchNorm):
    """Batch norm that knows only the statistics of the batch, in evaluation mode too."""

    def _known(self, x: Tensor) -> Tensor:
        return functional.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)


class Convolution(nn.Module):
    """ReLU(BN(conv3(x)))."""

    def __init__(self, norm: type[GroupedBatchNorm], inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, outputs, kernel_size=3, padding=1)
        self.bn1 = norm(outputs)

    def forward(self, x: Tensor, groups: Sequence[int] | None) -> Tensor:
        """(B, outputs, Z, Y, X)."""
        if min(x.shape[2:]) < SAFE_EDGE:
            with torch.autocast(x.device.type, enabled=False):
                x = self.conv1(x.float())
        else:
            x = self.conv1(x)
        return functional.relu(self.bn1(x, groups))


class Level(nn.Module):
    """Two convolutions."""

    def __init__(self, norm: type[GroupedBatchNorm], inputs: int, middle: int, outputs: int) -> None:
        super().__init__()
        self.ops = nn.ModuleList([Convolution(norm, inputs, middle), Convolution(norm, middle, outputs)])

    def forward(self, x: Tensor, groups: Sequence[int] | None) -> Tensor:
        """(B, outputs, Z, Y, X)."""
        for convolution in self.ops:
            x = convolution(x, groups)
        return x


class Rising(nn.Module):
    """Twice the size, the skip beside it, two convolutions."""

    def __init__(self, norm: type[GroupedBatchNorm], inputs: int, skip: int) -> None:
        super().__init__()
        self.up_conv = nn.ConvTranspose3d(inputs, inputs, kernel_size=2, stride=2)
        self.ops = Level(norm, inputs + skip, skip, skip).ops

    def forward(self, x: Tensor, skip: Tensor, groups: Sequence[int] | None) -> Tensor:
        """(B, C, 2Z, 2Y, 2X) for x (B, inputs, Z, Y, X) and skip (B, C, 2Z, 2Y, 2X)."""
        x = torch.cat([self.up_conv(x), skip], 1)  # (B, inputs + C, 2Z, 2Y, 2X)
        for convolution in self.ops:
            x = convolution(x, groups)
        return x


class Output(nn.Module):
    """Sigmoid of one channel."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.final_conv = nn.Conv3d(inputs, 1, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, Z, Y, X) in [0, 1]."""
        return torch.sigmoid(self.final_conv(x))
