"""What PCRL does to the maps of a U-Net: attention that is told of turns, a projector, mixtures."""

import torch
from torch import Tensor, nn
from torch.nn import functional

INDICATORS = 7
"""Flips along x, y and z, and one of four quarter turns."""


class Multiplicative(nn.Module):
    """Each channel of a map times a number from 0 to 1 that follows from the indicators alone.

    Args:
        channels: C of the maps.

    Source: Luchixiang/PCRL@197bf91, which has this in place of the paper's outer product for stability.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.aug_fc1 = nn.Linear(INDICATORS, channels // 2)
        self.aug_fc2 = nn.Linear(channels // 2, channels)

    def forward(self, maps: Tensor, indicators: Tensor) -> Tensor:
        """(B, C, Z, Y, X) of maps of that shape and indicators (B, 7)."""
        with torch.autocast(maps.device.type, enabled=False):
            factors = torch.sigmoid(self.aug_fc2(functional.relu(self.aug_fc1(indicators))))
        return _times(maps, factors)


class Outer(nn.Module):
    """Each channel times a number that follows from indicators and maps together, then a convolution.

    The number is from 1/2 to 1: the sigmoid of a ReLU.

    Args:
        channels: C of the maps; C^3 weights.

    Source: PCRL (ICCV 2021), Eq. 1 to 4; the ReLU between the first two layers is that of the release.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.aug_fc1 = nn.Linear(INDICATORS, channels // 2)
        self.aug_fc2 = nn.Linear(channels // 2, channels)
        self.outer = nn.Linear(channels**2, channels, bias=False)
        self.conv = nn.Conv3d(channels, channels, kernel_size=3, padding=1)

    def forward(self, maps: Tensor, indicators: Tensor) -> Tensor:
        """(B, C, Z, Y, X) of maps of that shape and indicators (B, 7)."""
        # exact: the bfloat16 gradients of convolutions of small maps are not (ctssl.networks.conv3d)
        with torch.autocast(maps.device.type, enabled=False):
            maps = maps.float()
            told = self.aug_fc2(functional.relu(self.aug_fc1(indicators)))  # (B, C) f^p
            seen = maps.mean((2, 3, 4))  # (B, C) f^l
            both = (told[:, :, None] * seen[:, None, :]).flatten(1)  # (B, C^2) M
            return self.conv(_times(maps, torch.sigmoid(functional.relu(self.outer(both)))))


class Head(nn.Module):
    """Attention and a projector of two dense layers.

    Args:
        attention: `multiplicative` or `outer`.
        channels: C of the bottleneck.
        size: P of what is compared.
    """

    attention: Multiplicative | Outer

    def __init__(self, attention: str, channels: int, size: int) -> None:
        super().__init__()
        self.attention = Multiplicative(channels) if attention == "multiplicative" else Outer(channels)
        self.fc1 = nn.Linear(channels, size)
        self.fc2 = nn.Linear(size, size)

    def project(self, maps: Tensor) -> Tensor:
        """(B, P) of length one, of the mean over space of maps (B, C, Z, Y, X)."""
        with torch.autocast(maps.device.type, enabled=False):
            hidden = functional.relu(self.fc1(maps.float().mean((2, 3, 4))))
            return functional.normalize(self.fc2(hidden))


def mixed(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """(B, ...): a share (B,) of the first, the rest of the second."""
    share = share.to(first.dtype).view(-1, *[1] * (first.dim() - 1))
    return share * first + (1 - share) * second


def _times(maps: Tensor, factors: Tensor) -> Tensor:
    """Maps (B, C, Z, Y, X) in their precision, each channel times its factor (B, C)."""
    return maps * factors[:, :, None, None, None].to(maps.dtype)
