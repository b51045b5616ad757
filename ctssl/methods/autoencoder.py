"""autoencoder: the trunk of context-aware, trained to give patches back; a control.

It has seen the same patches as context-aware, through the same trunk, and nobody told it which of them belong
to one landmark, one scan or one graph. The loss is the mean squared error of the windowed patch.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ctssl.config.methods import Autoencoder as Options
from ctssl.config.methods import ContextAware
from ctssl.methods import Made, Phase
from ctssl.methods.context_aware import Embedder
from ctssl.networks.decoder3d import PatchDecoder
from ctssl.prepare.atlas import Atlas
from ctssl.train import augment
from ctssl.train.batches import Batch


class Autoencoder(nn.Module):
    """The method: a trunk that is kept, and a decoder that is not.

    Attributes:
        query: the embedder; features are the mean of C(x) over a scan's landmarks, as of 'w/o Graph'.
        decoder: from C(x) to x.
    """

    def __init__(self, options: Options, atlas: Atlas) -> None:
        super().__init__()
        self.options = options
        self.query = self.embedder(options)
        self.decoder = PatchDecoder(options.feature_size, atlas.patch_voxels)

    @classmethod
    def build(cls, options: Options, atlas: Atlas) -> "Autoencoder":
        """The method with fresh weights from torch's random numbers."""
        return cls(options, atlas)

    @classmethod
    def embedder(cls, options: Options, landmarks: int = 0) -> Embedder:
        """An embedder as that of context-aware without a graph, whose head nobody asks for."""
        same = options.model_dump(include={"feature_size", "hu_min", "hu_max"})
        return Embedder(ContextAware(**same, graph=False))

    def phases(self) -> list[Phase]:
        """One phase: patches of many landmarks.

        Batch norm takes away what a batch has in common. Of one landmark that is its anatomy, which no
        decoder could give back.
        """
        o = self.options
        head = set(self.query.encoder.fc.parameters())
        trunk = [p for p in self.query.encoder.parameters() if p not in head]
        return [
            Phase(
                name="patch",
                unit="patch",
                batch=o.patch_batch,
                rounds=1,
                parameters=[*trunk, *self.decoder.parameters()],
                groups=o.bn_groups,
                keys=None,
                key_features=0,
                loss=self.patch_loss,
            )
        ]

    def patch_loss(self, batch: Batch, keys: Tensor | None) -> dict[str, Tensor]:
        """Mean squared error of the patches, window onto -1 to 1; `error_hu`, the mean absolute one in HU."""
        self.query.encoder.train()
        self.decoder.train()
        low, high = self.options.hu_min, self.options.hu_max
        patches = augment.to_window(batch.patches.float().clamp(low, high), low, high)
        features = self.query.encoder.trunk(patches, batch.groups)
        made = self.decoder(features, batch.groups).float()
        with torch.no_grad():
            error_hu = functional.l1_loss(made, patches) * (high - low) / 2
        return {"total": functional.mse_loss(made, patches), "error_hu": error_hu}

    def networks(self) -> list[nn.Module]:
        """Encoder and decoder."""
        return [self.query.encoder, self.decoder]

    def after_step(self, phase: Phase, made: Made | None) -> None:
        """Nothing is left to do."""

    def embed(self, batch: Batch) -> Tensor:
        """(B, F) features of the scans."""
        return self.query.embed(batch)
