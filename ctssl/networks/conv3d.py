"""The conditional patch encoder E: a trunk C of 13 convolutions and a dense head f."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ctssl.networks.batchnorm import GroupedBatchNorm

SAFE_EDGE = 4
"""Maps of fewer voxels along an axis stay in float32. On the CPU the bfloat16 weight gradient of a stride-1
convolution of a 2^3 map reads memory that nobody wrote (seen: torch 2.13, AVX-512 bf16, up to infinity)."""


def dense_head(width: int, features: int, layers: int) -> nn.Sequential:
    """Dense layers with ReLU between them; all but the last keep the width.

    Source: batmanlab/Context_Aware_SSL@6fa7acb has 2 layers, the paper's supplement 3.
    """
    modules: list[nn.Module] = []
    for _ in range(layers - 1):
        modules += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*modules, nn.Linear(width, features))


class PatchEncoder(nn.Module):
    """E(x, p) = f(C(x) || p), paper Eq. 4. Module names are those of the released weights.

    Args:
        features: width F of C(x) and of the projection.
        head_layers: dense layers of f.
        conditional: whether f sees the landmark's coordinates.

    Source: paper section "Learning Patch-level Representation"; layers of
    batmanlab/Context_Aware_SSL@6fa7acb.
    """

    def __init__(self, features: int, head_layers: int, *, conditional: bool) -> None:
        super().__init__()
        self.conditional = conditional
        self.conv1, self.bn1 = _conv(1, 8), GroupedBatchNorm(8)
        self.conv2, self.bn2 = _conv(8, 8, stride=2), GroupedBatchNorm(8)
        self.downsample1 = Halving(8, 16)
        self.downsample2 = Halving(16, 32)
        self.downsample3 = Halving(32, 64)
        self.conv3, self.bn3 = _conv(64, features), GroupedBatchNorm(features)
        self.conv4, self.bn4 = _conv(features, features, stride=2), GroupedBatchNorm(features)
        self.fc = dense_head(features + 3 * conditional, features, head_layers)

    def trunk(self, patches: Tensor, groups: Sequence[int] | None = None) -> Tensor:
        """(B, F): C(x) of patches (B, 1, E, E, E) in [-1, 1], axes z, y, x.

        Made for E = 32, of which one voxel is left. Of more voxels the mean is taken; that is ours.

        Args:
            patches: in channels_last_3d they are fastest.
            groups: sizes of the batch norm groups while training; one group when None.
        """
        x = self.bn1.elu(self.conv1(patches), groups)  # (B, 8, 32, 32, 32), and so on for E = 32
        x = self.bn2.elu(self.conv2(x), groups)  # (B, 8, 16, 16, 16)
        x = self.downsample2(self.downsample1(x, groups), groups)  # (B, 32, 4, 4, 4)
        exact = torch.autocast(x.device.type, enabled=False)
        if x.shape[-1] < SAFE_EDGE:
            with exact:
                x = self.downsample3(x.float(), groups)
        else:
            x = self.downsample3(x, groups)  # (B, 64, 2, 2, 2)
        with exact:
            x = self.bn3.elu(self.conv3(x.float()), groups)  # (B, F, 2, 2, 2)
            x = self.bn4.elu(self.conv4(x), groups)  # (B, F, 1, 1, 1)
        return x.flatten(2).mean(2)

    def forward(self, patches: Tensor, coordinates: Tensor, groups: Sequence[int] | None = None) -> Tensor:
        """(B, F): the projection of patches (B, 1, E, E, E) at coordinates (B, 3), x, y, z in [0, 1]."""
        return self.project(self.trunk(patches, groups), coordinates)

    def project(self, features: Tensor, coordinates: Tensor) -> Tensor:
        """(B, F): the head on trunk features (B, F) and, when conditional, coordinates (B, 3)."""
        if self.conditional:
            features = torch.cat([features, coordinates.to(features.dtype)], 1)
        return self.fc(features)


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, kernel_size=3, stride=stride, padding=1)


class Halving(nn.Sequential):
    """Three convolutions, each with batch norm and ELU, the last of stride 2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        modules: list[nn.Module] = []
        for first, stride in ((inputs, 1), (outputs, 1), (outputs, 2)):
            modules += [_conv(first, outputs, stride), GroupedBatchNorm(outputs), nn.ELU()]
        super().__init__(*modules)

    def forward(self, x: Tensor, groups: Sequence[int] | None = None) -> Tensor:
        """(B, outputs, E/2, E/2, E/2) for x (B, inputs, E, E, E)."""
        modules = list(self)
        for convolution, norm in zip(modules[::3], modules[1::3], strict=True):  # the norm does ELU, too
            x = norm.elu(convolution(x), groups)  # type: ignore[operator]
        return x
