"""A small pyramid of convolutions, which sees crops at four sizes."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ctssl.networks.batchnorm import GroupedBatchNorm
from ctssl.networks.conv3d import SAFE_EDGE, Halving

LEVELS = 4
"""Each has half the size and twice the width of the one above; a side of the input is a multiple of 2^4."""


class Pyramid(nn.Module):
    """Volumes to one vector each, the means of the levels side by side, as VoCo takes them of SwinUNETR.

    Args:
        width: channels W of the first level.

    Attributes:
        size: of a vector, 15 W.

    Source: ours; the blocks are those of the patch encoder. A first convolution of stride 2, without one at
    full size, saves most of the memory.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        self.size = sum(widths)
        self.conv1 = nn.Conv3d(1, width, kernel_size=3, stride=2, padding=1)
        self.bn1 = GroupedBatchNorm(width)
        self.halvings = nn.ModuleList([Halving(inputs, outputs) for inputs, outputs in pairwise(widths)])

    def forward(self, x: Tensor, groups: Sequence[int] | None = None) -> Tensor:
        """(B, 15 W) float32 of volumes (B, 1, Z, Y, X) in [0, 1].

        Args:
            x: in channels_last_3d they are fastest.
            groups: sizes of the batch norm groups while training; one group when None.
        """
        x = self.bn1.elu(self.conv1(x), groups)  # (B, W, Z/2, ...)
        means = [x.float().mean((2, 3, 4))]
        for halving in self.halvings:  # (B, 2W, Z/4, ...), (B, 4W, Z/8, ...), (B, 8W, Z/16, ...)
            if min(x.shape[2:]) < SAFE_EDGE:
                with torch.autocast(x.device.type, enabled=False):
                    x = halving(x.float(), groups)
            else:
                x = halving(x, groups)
            means.append(x.float().mean((2, 3, 4)))
        return torch.cat(means, 1)
