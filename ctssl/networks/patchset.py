"""Sets of patches: an encoder of each, and attention that makes one vector of a set, however many there are.

Source: Singla et al., "Subject2Vec: Generative-Discriminative Approach from a Set of Image Patches to a
Vector", MICCAI 2018, and its released code.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ctssl.networks.batchnorm import GroupedBatchNorm
from ctssl.networks.conv3d import SAFE_EDGE, Halving

WIDTHS = (8, 16, 32, 64)
"""Channels after each halving; the last one has the features' width."""


class SetEncoder(nn.Module):
    """14 convolutions of 3^3, each with batch norm and ELU, which halve a patch five times.

    Args:
        features: width F of the end.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(1, WIDTHS[0], kernel_size=3, padding=1)
        self.conv2 = nn.Conv3d(WIDTHS[0], WIDTHS[0], kernel_size=3, stride=2, padding=1)
        self.bn1, self.bn2 = GroupedBatchNorm(WIDTHS[0]), GroupedBatchNorm(WIDTHS[0])
        self.halvings = nn.ModuleList(Halving(a, b) for a, b in pairwise((*WIDTHS, features)))

    def forward(self, patches: Tensor, groups: Sequence[int] | None = None) -> Tensor:
        """(M, F) float32 of patches (M, 1, E, E, E), axes z, y, x; of more than one last voxel the mean.

        Args:
            patches: in channels_last_3d they are fastest.
            groups: patches of each batch norm group while training; one group when None.
        """
        x = self.bn1.elu(self.conv1(patches), groups)  # (M, 8, 32, 32, 32), and so on for E = 32
        x = self.bn2.elu(self.conv2(x), groups)  # (M, 8, 16, 16, 16)
        for halving in self.halvings:
            if x.shape[-1] < SAFE_EDGE:
                with torch.autocast(x.device.type, enabled=False):
                    x = halving(x.float(), groups)
            else:
                x = halving(x, groups)  # (M, 16, 8, ...), (M, 32, 4, ...), (M, 64, 2, ...), (M, F, 1, 1, 1)
        return x.float().flatten(2).mean(2)


class SetAttention(nn.Module):
    """How much each member of a set counts: two layers that see what is above the rest of the set.

    Args:
        features: width F of members.
        hidden: between the layers.

    Source: the layers are permutation equivariant as in Deep Sets (arXiv 1703.06114): sigmoid of a dense
    layer on x less the set's maximum.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(features, hidden), nn.Linear(hidden, 1)

    def forward(self, members: Tensor, counts: Sequence[int]) -> Tensor:
        """(M,) weights, of which those of each set sum to 1.

        Args:
            members: (M, F), those of one set together.
            counts: members of each set, none of them 0.
        """
        x = self.first(below_most(members, counts)).sigmoid()  # (M, hidden)
        x = self.second(below_most(x, counts)).sigmoid()[:, 0]  # (M,)
        return torch.cat([one.softmax(0) for one in x.split(list(counts))])


def below_most(members: Tensor, counts: Sequence[int]) -> Tensor:
    """(M, F) members less the largest of their set in each column."""
    return torch.cat([one - one.amax(0) for one in members.split(list(counts))])
