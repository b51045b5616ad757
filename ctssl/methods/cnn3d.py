"""cnn-3d: a plain 3-D network that is trained on labels; it sees whole lungs on few voxels. Ours."""

from torch import Tensor

from ctssl.config.methods import Cnn3D as Options
from ctssl.methods.moco import scaled
from ctssl.methods.supervised import Network, Said, Supervised, dropped
from ctssl.networks.volume import VolumeEncoder
from ctssl.train import augment
from ctssl.train.batches import Batch
from ctssl.train.cuts import Whole
from ctssl.train.random import of_view


class VolumeNetwork(Network):
    """The encoder of volumes, whose head says what is asked.

    Attributes:
        encoder: convolutions, mean over space, two dense layers.
        cut: the volume that it sees of a scan.
    """

    def __init__(self, options: Options, outputs: int) -> None:
        super().__init__()
        self.options = options
        self.encoder = VolumeEncoder(options.volume_voxels, options.feature_size, outputs)
        self.augment = scaled(options.augment, options.volume_voxels)
        field = options.field_mm
        self.cut = Whole((options.volume_voxels,) * 3, None if field is None else (field,) * 3)

    def forward(self, batch: Batch) -> Said:
        """The means over space, and what the head makes of them."""
        features = self.encoder.trunk(self._volumes(batch), batch.groups)  # (B, F)
        kept = dropped(features, batch.random, self.options.dropout) if self.training else features
        return Said(self.encoder.fc(kept), features, {})

    def _volumes(self, batch: Batch) -> Tensor:
        """(B, 1, E, E, E) windowed volumes, augmented while training."""
        low, high = self.options.hu_min, self.options.hu_max
        if self.training:
            return augment.augmented(self.augment, batch.patches, of_view(batch.random, 0), (low, high))
        return augment.to_window(batch.patches.float().clamp(low, high), low, high)


class Cnn3D(Supervised):
    """The method."""

    network_class = VolumeNetwork

    def batch(self) -> int:
        """Scans in a step."""
        return int(self.options.volume_batch)  # type: ignore[attr-defined]
