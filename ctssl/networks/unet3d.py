"""The 3-D U-Net of Models Genesis and PCRL; tensor names are those of the released weights."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ctssl.networks.batchnorm import GroupedBatchNorm
from ctssl.networks.conv3d import SAFE_EDGE

HALVINGS = 3
"""A side of the input is a multiple of 2^3 voxels."""


class UNet3D(nn.Module):
    """Four levels down, three up, a sigmoid; 19,073,665 parameters, of which 7,027,776 lead down.

    Args:
        batch_statistics: in evaluation mode, too, normalise by the statistics of the batch, as released.
            An output then depends on what else is in its batch.

    Source: Models Genesis (MICCAI 2019), layers of MrGiovanni/ModelsGenesis@12f7feb; PCRL (ICCV 2021)
    has the same network.
    """

    def __init__(self, *, batch_statistics: bool = False) -> None:
        super().__init__()
        norm = BatchStatisticsNorm if batch_statistics else GroupedBatchNorm
        self.down_tr64 = Level(norm, 1, 32, 64)
        self.down_tr128 = Level(norm, 64, 64, 128)
        self.down_tr256 = Level(norm, 128, 128, 256)
        self.down_tr512 = Level(norm, 256, 256, 512)
        self.up_tr256 = Rising(norm, 512, 256)
        self.up_tr128 = Rising(norm, 256, 128)
        self.up_tr64 = Rising(norm, 128, 64)
        self.out_tr = Output(64)

    def forward(self, x: Tensor, groups: Sequence[int] | None = None) -> Tensor:
        """(B, 1, Z, Y, X) in [0, 1]: the reconstruction of volumes (B, 1, Z, Y, X) in [0, 1].

        Args:
            x: each side a multiple of 8.
            groups: sizes of the batch norm groups while training; one group when None.
        """
        *skips, x = self._down(x, groups)
        rising: tuple[Rising, ...] = (self.up_tr256, self.up_tr128, self.up_tr64)
        for up, skip in zip(rising, reversed(skips), strict=True):
            x = up(x, skip, groups)
        return self.out_tr(x)

    def bottleneck(self, x: Tensor, groups: Sequence[int] | None = None) -> Tensor:
        """(B, 512, Z/8, Y/8, X/8): the lowest level's output; its mean over space is the feature."""
        return self._down(x, groups)[-1]

    def _down(self, x: Tensor, groups: Sequence[int] | None) -> list[Tensor]:
        """What each level puts out."""
        if any(side % 2**HALVINGS for side in x.shape[2:]):
            msg = f"each side is a multiple of {2**HALVINGS} voxels, but the input has {tuple(x.shape[2:])}"
            raise ValueError(msg)
        found = [self.down_tr64(x, groups)]  # (B, 64, Z, Y, X)
        for level in (self.down_tr128, self.down_tr256, self.down_tr512):
            found.append(level(functional.max_pool3d(found[-1], 2), groups))
        return found  # ..., (B, 512, Z/8, Y/8, X/8)


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
