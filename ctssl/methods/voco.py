"""voco: the published SwinUNETR encoder of VoCo, frozen, on windows over the lungs.

Source: Wu, Zhuang, Chen, "VoCo: A Simple-yet-Effective Volume Contrastive Learning Framework for 3D Medical
Image Analysis", CVPR 2024; Luffy03/VoCo@ba7b7bd.
"""

import torch
from torch import Tensor, nn

from ctssl.config.methods.frozen import Voco as Options
from ctssl.methods.windowed import window_features
from ctssl.networks.swin import SwinEncoder
from ctssl.train.batches import Batch
from ctssl.train.cuts import Windows


class Embedder(nn.Module):
    """The network and what it is shown.

    Attributes:
        cut: of the box of a scan.

    Raises:
        MachineFault: MONAI is not installed.
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.cut = Windows(options.crop_voxels, options.window_step, options.least_lung)
        self.network = SwinEncoder(options.feature_size, use_v2=options.use_v2)

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """(B, 24 feature_size): means of five levels, and over windows; the projector is not part of it."""
        self.eval()
        window = self.options.hu_min, self.options.hu_max
        return window_features(batch.patches, batch.counts, window, self.network.features)


class Voco:
    """The method: nothing to train, so there are no phases."""

    @classmethod
    def embedder(cls, options: Options, landmarks: int = 0) -> Embedder:
        """What weights are loaded into.

        Raises:
            MachineFault: MONAI is not installed.
        """
        return Embedder(options)
