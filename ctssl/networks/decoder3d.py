"""The trunk of the patch encoder, mirrored: from a feature vector back to a patch."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from ctssl.networks.batchnorm import GroupedBatchNorm
from ctssl.networks.conv3d import SAFE_EDGE

_WIDTHS = ((64,), (64, 32), (32, 16), (16, 8), ())
"""Channels after each convolution of a stage that follows its doubling, which leaves them as they are."""


class PatchDecoder(nn.Module):
    """x = D(C(x)): as many stages as the trunk, each with its convolutions in reverse order.

    Where the trunk halves with stride 2, this doubles with a transposed convolution. Each convolution has
    batch norm and ELU, but the last, whose values are those of voxels.

    Args:
        features: F, the width of the trunk's vector.
        edge: E of the patches.
        widths: channels after each convolution of a stage that follows its doubling.
    """

    def __init__(self, features: int, edge: int, widths: Sequence[Sequence[int]] = _WIDTHS) -> None:
        super().__init__()
        edges = [edge]
        for _ in widths:
            edges.append(-(-edges[-1] // 2))
        self.edges = edges[-2::-1]  # after each stage: 2, 4, 8, 16, 32 for E = 32
        self.start = edges[-1]
        self.spread = nn.Linear(features, features * self.start**3)
        inputs = [features, *(stage[-1] for stage in widths[:-1])]
        self.stages = nn.ModuleList(map(Doubling, inputs, widths))
        self.last = nn.Conv3d(inputs[-1], 1, kernel_size=3, padding=1)

    def forward(self, features: Tensor, groups: Sequence[int] | None = None) -> Tensor:
        """(B, 1, E, E, E): patches, axes z, y, x, of features (B, F).

        Args:
            features: of the trunk.
            groups: sizes of the batch norm groups while training; one group when None.
        """
        x = self.spread(features).view(*features.shape, *[self.start] * 3)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        for stage, edge in zip(self.stages, self.edges, strict=True):
            exact = edge < SAFE_EDGE  # as in the trunk
            with torch.autocast(x.device.type, enabled=False) if exact else nullcontext():
                x = stage(x.float() if exact else x, edge, groups)
        return self.last(x)


class Doubling(nn.Module):
    """A transposed convolution of stride 2, then others of stride 1, each with batch norm and ELU."""

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.grow = nn.ConvTranspose3d(inputs, inputs, kernel_size=3, stride=2, padding=1)
        pairs = zip((inputs, *widths), widths, strict=False)
        self.convolutions = nn.ModuleList(nn.Conv3d(a, b, kernel_size=3, padding=1) for a, b in pairs)
        self.norms = nn.ModuleList(map(GroupedBatchNorm, (inputs, *widths)))

    def forward(self, x: Tensor, edge: int, groups: Sequence[int] | None = None) -> Tensor:
        """(B, C, edge, edge, edge) of x (B, inputs, E, E, E); edge is 2 E or 2 E - 1."""
        first, *others = self.norms
        x = first.elu(self.grow(x, output_size=[edge] * 3), groups)  # type: ignore[operator]
        for convolution, norm in zip(self.convolutions, others, strict=True):
            x = norm.elu(convolution(x), groups)  # type: ignore[operator]
        return x
