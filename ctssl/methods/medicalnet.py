"""medicalnet: a published ResNet, frozen, on the whole box of the lungs.

Source: Chen, Ma, Zheng, "Med3D: Transfer Learning for 3D Medical Image Analysis", arXiv 1904.00625;
Tencent/MedicalNet@20f76aa. As a baseline of frozen features: "Context Matters", AAAI 2021.
"""

import torch
from torch import Tensor, nn

from ctssl.config.methods.frozen import MedicalNet as Options
from ctssl.networks.resnet3d import ResNet3D
from ctssl.train.batches import Batch
from ctssl.train.cuts import Whole


class Embedder(nn.Module):
    """The network and what it is shown.

    Attributes:
        cut: of the box of a scan.
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.cut = Whole(options.volume_voxels)
        self.network = ResNet3D(options.depth)

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """(B, 512), or (B, 2048) of depth 50: the mean of layer 4 over the volume."""
        self.eval()
        hu = batch.patches.float()
        # one volume at a time: it takes gigabytes
        return torch.cat([self.network.features(self.normalised(one)[:, None]) for one in hu.split(1)])

    def normalised(self, hu: Tensor) -> Tensor:
        """(M, Z, Y, X): mean 0 and standard deviation 1 over the body of each volume, 0 outside of it.

        The body is what lies above `hu_min`: HU are shifted so that it is above 0, as the release has it.
        """
        low, high = self.options.hu_min, self.options.hu_max
        shifted = hu.clamp(low, high) - low
        body = shifted > 0
        space = (1, 2, 3)
        count = body.sum(space, keepdim=True).clamp(min=1)
        mean = shifted.sum(space, keepdim=True) / count
        centred = (shifted - mean) * body
        spread = (centred.square().sum(space, keepdim=True) / count).sqrt()
        return centred / spread.clamp(min=1)  # 1 HU: a volume without any contrast stays 0


class MedicalNet:
    """The method: nothing to train, so there are no phases."""

    @classmethod
    def embedder(cls, options: Options, landmarks: int = 0) -> Embedder:
        """What weights are loaded into."""
        return Embedder(options)
