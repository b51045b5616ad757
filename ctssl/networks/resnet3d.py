"""The dilated 3-D ResNets of MedicalNet; tensor names are those of the released weights."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Depth = Literal[10, 18, 34, 50]

BLOCKS: dict[int, tuple[int, int, int, int]] = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
}
"""Depth -> blocks in each layer."""

WIDTHS = {10: 512, 18: 512, 34: 512, 50: 2048}
"""Depth -> channels that come out."""

_LAYERS = ((64, 1, 1), (128, 2, 1), (256, 1, 2), (512, 1, 4))
"""Channels, stride, dilation. Layers 3 and 4 widen what they see and keep the size; a network with strides
there takes the same weights without a word and gives other features."""

_PROJECTED = (10, 50)
"""Depths whose shortcut, where size or channels change, is a convolution (type B) and not zeros (type A)."""


class ResNet3D(nn.Module):
    """Volumes to maps of an eighth of their size.

    Args:
        depth: 10, 18, 34 or 50 layers.

    Source: Med3D (arXiv 1904.00625); layers of Tencent/MedicalNet@20f76aa.
    """

    def __init__(self, depth: Depth) -> None:
        super().__init__()
        block = Bottleneck if depth == 50 else Basic
        self.conv1 = nn.Conv3d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        layers, inputs = [], 64
        for count, (channels, stride, dilation) in zip(BLOCKS[depth], _LAYERS, strict=True):
            outputs = channels * block.expansion
            first = block(inputs, channels, stride, dilation, _shortcut(depth, inputs, outputs, stride))
            more = [block(outputs, channels, 1, dilation, nn.Identity()) for _ in range(count - 1)]
            layers.append(nn.Sequential(first, *more))
            inputs = outputs
        self.layer1, self.layer2, self.layer3, self.layer4 = layers

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Z/8, Y/8, X/8), sides rounded up: layer 4 of volumes (B, 1, Z, Y, X)."""
        x = functional.relu(self.bn1(self.conv1(x)))  # (B, 64, Z/2, Y/2, X/2)
        x = functional.max_pool3d(x, 3, stride=2, padding=1)  # (B, 64, Z/4, Y/4, X/4)
        x = self.layer2(self.layer1(x))  # (B, 128 or 512, Z/8, Y/8, X/8)
        return self.layer4(self.layer3(x))

    def features(self, x: Tensor) -> Tensor:
        """(B, 512), or (B, 2048) of depth 50: the mean of layer 4 over space."""
        return self(x).mean((2, 3, 4))


class Basic(nn.Module):
    """Two convolutions of 3^3."""

    expansion = 1

    def __init__(self, inputs: int, channels: int, stride: int, dilation: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1, self.bn1 = _wide(inputs, channels, stride, dilation), nn.BatchNorm3d(channels)
        self.conv2, self.bn2 = _wide(channels, channels, 1, dilation), nn.BatchNorm3d(channels)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, Z, Y, X), sides over the stride."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return functional.relu(y + self.downsample(x))


class Bottleneck(nn.Module):
    """A convolution of 3^3 between two of 1^3, the last of which widens."""

    expansion = 4

    def __init__(self, inputs: int, channels: int, stride: int, dilation: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1, self.bn1 = _point(inputs, channels), nn.BatchNorm3d(channels)
        self.conv2, self.bn2 = _wide(channels, channels, stride, dilation), nn.BatchNorm3d(channels)
        self.conv3, self.bn3 = _point(channels, 4 * channels), nn.BatchNorm3d(4 * channels)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, 4 channels, Z, Y, X), sides over the stride."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return functional.relu(y + self.downsample(x))


class Thinned(nn.Module):
    """Shortcut of type A: every stride-th voxel, and channels of zeros."""

    def __init__(self, outputs: int, stride: int) -> None:
        super().__init__()
        self.outputs, self.stride = outputs, stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, outputs, Z, Y, X), sides over the stride."""
        x = x[:, :, :: self.stride, :: self.stride, :: self.stride]
        zeros = x.new_zeros(len(x), self.outputs - x.shape[1], *x.shape[2:])
        return torch.cat([x, zeros], 1)


def _shortcut(depth: int, inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    if depth in _PROJECTED:
        return nn.Sequential(_point(inputs, outputs, stride), nn.BatchNorm3d(outputs))
    return Thinned(outputs, stride)


def _wide(inputs: int, outputs: int, stride: int, dilation: int) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)


def _point(inputs: int, outputs: int, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, 1, stride=stride, bias=False)
