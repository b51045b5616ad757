"""A small network of pictures: three convolutions, each followed by pooling, and a dense layer.

Source: Gonzalez et al., AJRCCM 2018, as far as its text says how; sizes, batch norm and ELU are ours.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ctssl.networks.batchnorm import GroupedBatchNorm

EDGE, POOL = 5, 4
"""Pixels along the edges of a convolution's kernel, and of what pooling makes one: each pooled pixel has seen
all around it."""


class PictureEncoder(nn.Module):
    """Features of square pictures. As volumes of one plane, they are what batch norm is fast on.

    Args:
        pixels: along an edge.
        widths: channels after each convolution.
        features: width F of the dense layer.
    """

    def __init__(self, pixels: int, widths: Sequence[int], features: int) -> None:
        super().__init__()
        kernel, padding = (1, EDGE, EDGE), (0, EDGE // 2, EDGE // 2)
        steps = list(pairwise((1, *widths)))
        self.convolutions = nn.ModuleList(nn.Conv3d(a, b, kernel, padding=padding) for a, b in steps)
        self.norms = nn.ModuleList(map(GroupedBatchNorm, widths))
        for _ in widths:
            pixels = -(-pixels // POOL)
        self.dense = nn.Linear(widths[-1] * pixels**2, features)
        self.last = GroupedBatchNorm(features)  # without it training waits long at the mean of the labels

    def forward(self, pictures: Tensor, groups: Sequence[int] | None = None) -> Tensor:
        """(B, F) float32 of pictures (B, 1, E, E).

        Args:
            pictures: in [-1, 1].
            groups: sizes of the batch norm groups while training; one group when None.
        """
        with torch.autocast(pictures.device.type, enabled=False):  # too small to gain by half the bits
            x = pictures.float()[:, :, None].contiguous(memory_format=torch.channels_last_3d)
            for convolution, norm in zip(self.convolutions, self.norms, strict=True):
                x = norm.elu(convolution(x), groups)  # type: ignore[operator]
                x = functional.max_pool3d(x, (1, POOL, POOL), ceil_mode=True)
            return self.last.elu(self.dense(x.flatten(1)), groups)  # (B, C, 1, E/64, E/64) -> (B, F)
