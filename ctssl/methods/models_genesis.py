"""models-genesis: a U-Net restores crops of the lungs that were shuffled, bent in their values, painted over.

Source: Zhou et al., "Models Genesis", MICCAI 2019 and MedIA 2021; MrGiovanni/ModelsGenesis@12f7feb where
the options say so.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ctssl.config.augment import Augment
from ctssl.config.methods import ModelsGenesis as Options
from ctssl.methods import Made, Phase
from ctssl.networks.unet3d import UNet3D
from ctssl.prepare.atlas import Atlas
from ctssl.train import augment
from ctssl.train.batches import Batch
from ctssl.train.cuts import Crops, Windows

CHUNK = 8
"""Windows that go through the network together where no gradient is wanted."""


class Embedder(nn.Module):
    """The U-Net, of which features use the way down.

    Attributes:
        network: the U-Net.
        cut: the windows that `embed` is given of a scan.
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.network = UNet3D(batch_statistics=options.batch_statistics)
        self.cut = Windows(options.crop_voxels, options.window_step, options.least_lung)

    def to_unit(self, hu: Tensor) -> Tensor:
        """(M, 1, Z, Y, X) float32 of HU (M, Z, Y, X): the window onto 0 to 1, cut at its ends.

        (M, 1, X, Y, Z) where `axes` says so.
        """
        low, high = self.options.hu_min, self.options.hu_max
        unit = (hu.float().clamp(low, high) - low) / (high - low)
        return (unit if self.options.axes == "zyx" else unit.permute(0, 3, 2, 1))[:, None]

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """(B, 512): the mean over space of the bottleneck, and over the windows of each scan."""
        self.eval()
        parts = batch.patches.split(CHUNK)
        features = torch.cat(
            [self.network.bottleneck(self.to_unit(p)).float().mean((2, 3, 4)) for p in parts]
        )
        return torch.stack([of_scan.mean(0) for of_scan in features.split(list(batch.counts))])


class ModelsGenesis(nn.Module):
    """The method.

    Attributes:
        query: the embedder that is trained and kept.
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.query = Embedder(options)

    @classmethod
    def build(cls, options: Options, atlas: Atlas) -> "ModelsGenesis":
        """The method with fresh weights from torch's random numbers."""
        return cls(options)

    @classmethod
    def embedder(cls, options: Options, landmarks: int = 0) -> Embedder:
        """What weights are loaded into."""
        return Embedder(options)

    def phases(self) -> list[Phase]:
        """One: crops are restored."""
        o = self.options
        phase = Phase(
            name="restore",
            unit="crop",
            batch=o.crop_batch,
            rounds=1,
            parameters=list(self.query.parameters()),
            groups=o.bn_groups,
            keys=None,
            key_features=0,
            loss=self.restore_loss,
            cut=Crops(o.crop_voxels, o.crops, o.tissue_hu, o.most_tissue, o.tries),
        )
        return [phase]

    def restore_loss(self, batch: Batch, keys: Tensor | None) -> dict[str, Tensor]:
        """Mean squared difference of what the network makes of spoiled crops from the clean ones.

        `input_error` is that of the spoiled crops themselves: what a network that copies would reach.
        """
        self.query.train()
        spoiled, clean = self.pair(batch)
        groups = [scans * self.options.crops for scans in batch.groups]
        restored = self.query.network(spoiled, groups).float()
        error = functional.mse_loss(spoiled, clean)
        return {"total": functional.mse_loss(restored, clean), "input_error": error}

    def pair(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(M, 1, Z, Y, X) spoiled crops, and the same crops clean, flipped alike; both in [0, 1]."""
        flipped = self._changed(self.options.flip, batch.patches, batch.random)
        spoiled = self._changed(self.options.corrupt, flipped, batch.random)
        return self.query.to_unit(spoiled), self.query.to_unit(flipped)

    def _changed(self, how: Augment, hu: Tensor, keys: Tensor) -> Tensor:
        """(M, Z, Y, X) HU of crops, each changed for itself."""
        frame = augment.Frame(
            (hu.shape[1], hu.shape[2], hu.shape[3]), self.options.hu_min, self.options.hu_max
        )
        each = torch.arange(len(keys), device=keys.device)
        return augment.apply(augment.draw(how, keys, frame), hu, augment.Share(each, keys), frame)

    def networks(self) -> list[nn.Module]:
        """The U-Net."""
        return [self.query.network]

    def after_step(self, phase: Phase, made: Made | None) -> None:
        """Nothing is left to do."""

    def embed(self, batch: Batch) -> Tensor:
        """(B, 512) features of the scans' windows."""
        return self.query.embed(batch)
