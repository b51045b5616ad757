"""The encoder of MONAI's SwinUNETR, as VoCo has it; tensor names are those of the released weights."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ctssl.errors import MachineFault
from ctssl.networks.conv3d import SAFE_EDGE


class SwinEncoder(nn.Module):
    """Volumes to one vector each, the means of five levels.

    Args:
        feature_size: width of the first level.
        use_v2: a residual convolution before each stage.

    Attributes:
        size: of a vector, 24 feature_size.

    Raises:
        MachineFault: MONAI is not installed.

    Source: Luffy03/VoCo@ba7b7bd. Patches are merged as MONAI's "merging" does, which takes two of the eight
    sub-grids twice and two never: the weights were trained so.
    """

    def __init__(self, feature_size: int, *, use_v2: bool) -> None:
        super().__init__()
        self.size = 24 * feature_size
        whole = _swin_unetr(feature_size, use_v2)
        self.swinViT = whole.swinViT
        self.encoder1, self.encoder2 = whole.encoder1, whole.encoder2
        self.encoder3, self.encoder4, self.encoder10 = whole.encoder3, whole.encoder4, whole.encoder10

    def forward(self, x: Tensor, groups: Sequence[int] | None = None) -> Tensor:
        """As `features`; groups of batch norm are nothing to it, which normalises each volume for itself."""
        return self.features(x)

    def features(self, x: Tensor) -> Tensor:
        """(B, 24 feature_size) of volumes (B, 1, Z, Y, X) in [0, 1], each side a multiple of 32."""
        hidden = self.swinViT(x, True)  # (B, F, Z/2, ...), (B, 2F, Z/4, ...), ..., (B, 16F, Z/32, ...)
        maps = [self.encoder1(x), self.encoder2(hidden[0]), self.encoder3(hidden[1])]
        maps += [self.encoder4(hidden[2]), self._lowest(hidden[4])]
        return torch.cat([each.float().mean((2, 3, 4)) for each in maps], 1)  # F + F + 2F + 4F + 16F

    def _lowest(self, x: Tensor) -> Tensor:
        """(B, 16F, Z/32, ...) of such; small maps in float32."""
        if min(x.shape[2:]) >= SAFE_EDGE:
            return self.encoder10(x)
        with torch.autocast(x.device.type, enabled=False):
            return self.encoder10(x.float())


def _swin_unetr(feature_size: int, use_v2: bool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MONAI warns of its own imports
            import einops  # noqa: F401  MONAI finds out that it is missing when the network runs
            from monai.networks.nets import SwinUNETR
    except ImportError as error:
        raise MachineFault(
            f"the network of VoCo is MONAI's, which is not installed here ({error})",
            "install the extra voco: pip install --constraint constraints.txt --editable '.[voco]'",
        ) from error
    with torch.device("cpu"):  # its constructor reads values, which the device meta has not
        return SwinUNETR(
            in_channels=1,
            out_channels=1,
            feature_size=feature_size,
            downsample="merging",
            spatial_dims=3,
            use_v2=use_v2,
        )
