"""The encoder of whole volumes: the patch encoder's layers, with as many halvings as they need."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ctssl.networks.batchnorm import GroupedBatchNorm
from ctssl.networks.conv3d import Halving, dense_head

WIDTHS = (8, 16, 32, 64)
"""Channels after each halving; later ones have the features' width."""

LAST_EDGE = 4
"""Voxels along an edge of which the mean is taken, at most."""

_SAFE_EDGE = 4
"""Maps of fewer voxels along an axis stay in float32: ctssl.networks.conv3d says why."""


class VolumeEncoder(nn.Module):
    """A trunk, whose mean over space is the feature, and a dense head for what is compared.

    Args:
        voxels: along each edge of a volume.
        features: width F of the trunk's end.
        projection: width P of the head's end.

    Source: layers of batmanlab/Context_Aware_SSL@6fa7acb; head of MoCo v2 (arXiv 2003.04297). A first
    convolution of stride 2, without one at full size, is ours: it holds most of the memory.
    """

    def __init__(self, voxels: int, features: int, projection: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(1, WIDTHS[0], kernel_size=3, stride=2, padding=1)
        self.bn1 = GroupedBatchNorm(WIDTHS[0])
        widths, edge = [*WIDTHS, features], -(-voxels // 2 ** len(WIDTHS))
        while (edge := -(-edge // 2)) > LAST_EDGE:
            widths.append(features)
        self.halvings = nn.ModuleList([Halving(inputs, outputs) for inputs, outputs in pairwise(widths)])
        self.fc = dense_head(features, projection, 2)

    def trunk(self, volumes: Tensor, groups: Sequence[int] | None = None) -> Tensor:
        """(B, F) float32: the mean over space of volumes (B, 1, E, E, E) in [-1, 1], axes z, y, x.

        Args:
            volumes: in channels_last_3d they are fastest.
            groups: sizes of the batch norm groups while training; one group when None.
        """
        x = self.bn1.elu(self.conv1(volumes), groups)  # (B, 8, E/2, E/2, E/2)
        for halving in self.halvings:
            if x.shape[-1] < _SAFE_EDGE:
                with torch.autocast(x.device.type, enabled=False):
                    x = halving(x.float(), groups)
            else:
                x = halving(x, groups)  # (B, 16, E/4, ...), (B, 32, E/8, ...), ..., (B, F, 4, 4, 4)
        return x.float().flatten(2).mean(2)

    def forward(self, volumes: Tensor, groups: Sequence[int] | None = None) -> Tensor:
        """(B, P): the projection of volumes (B, 1, E, E, E)."""
        return self.fc(self.trunk(volumes, groups))
