"""pcrl: the published U-Net of PCRL, frozen, on windows over the lungs.

Source: Zhou et al., "Preservational Learning Improves Self-supervised Medical Image Models by Reconstructing
Diverse Contexts", ICCV 2021; Luchixiang/PCRL@197bf91.
"""

import torch
from torch import Tensor, nn

from ctssl.config.methods.frozen import Pcrl as Options
from ctssl.methods.windowed import window_features
from ctssl.networks.unet3d import UNet3D
from ctssl.train.batches import Batch
from ctssl.train.cuts import Windows


class Embedder(nn.Module):
    """The network and what it is shown.

    Attributes:
        cut: of the box of a scan.
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.cut = Windows(options.crop_voxels, options.window_step, options.least_lung)
        self.network = UNet3D()

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """(B, 512): the mean of the bottleneck over space and windows; the projector is not part of it."""
        self.eval()
        window = self.options.hu_min, self.options.hu_max
        return window_features(
            batch.patches, batch.counts, window, lambda x: self.network.bottleneck(x).mean((2, 3, 4))
        )


class Pcrl:
    """The method: nothing to train, so there are no phases."""

    @classmethod
    def embedder(cls, options: Options, landmarks: int = 0) -> Embedder:
        """What weights are loaded into."""
        return Embedder(options)
