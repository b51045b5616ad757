"""slice-cnn: a small 2-D network that is trained on labels; it sees four planes of a scan, side by side.

Source: Gonzalez et al., "Disease Staging and Prognosis in Smokers Using Deep Learning in Chest Computed
Tomography", AJRCCM 2018, which finds its views by a detector. Here the registered atlas places them.
"""

import torch
from torch import Tensor, nn

from ctssl.config.methods import SliceCnn as Options
from ctssl.methods.moco import scaled
from ctssl.methods.supervised import Network, Said, Supervised, dropped
from ctssl.networks.montage import PictureEncoder
from ctssl.prepare.atlas import Atlas
from ctssl.train import augment
from ctssl.train.batches import Batch
from ctssl.train.planes import Plane, Planes
from ctssl.train.random import of_view

VIEWS = 4


class MontageNetwork(Network):
    """The encoder of a montage, whose head says what is asked.

    Attributes:
        encoder: of the montage.
        fc: what its features say.
        coordinates: (N, 3) x, y, z of the atlas's landmarks in [0, 1]; kept with the weights, since they
            place the planes.
    """

    coordinates: Tensor

    def __init__(self, options: Options, outputs: int, landmarks: int) -> None:
        super().__init__()
        self.options = options
        self.encoder = PictureEncoder(2 * options.plane_voxels, options.widths, options.feature_size)
        self.fc = nn.Linear(options.feature_size, outputs)
        self.augment = scaled(options.augment, options.plane_voxels)
        self.register_buffer("coordinates", torch.zeros(landmarks, 3))

    @property
    def cut(self) -> Planes:
        """The planes that it sees of a scan."""
        o = self.options
        views = (
            Plane("axial", o.axial),
            Plane("coronal", o.coronal),
            Plane("sagittal", o.sagittal_right),
            Plane("sagittal", o.sagittal_left),
        )
        return Planes(views, o.plane_voxels, o.field_mm, o.slab_mm, self.coordinates.double().cpu().numpy())

    def forward(self, batch: Batch) -> Said:
        """The dense layer, and what the head makes of it."""
        features = self.encoder(montage(self._planes(batch)), batch.groups)  # (B, F)
        kept = dropped(features, batch.random, self.options.dropout) if self.training else features
        return Said(self.fc(kept), features, {})

    def _planes(self, batch: Batch) -> Tensor:
        """(B, 4, E, E) windowed planes, each augmented for itself while training."""
        planes, window = batch.patches, (self.options.hu_min, self.options.hu_max)
        if not self.training:
            return augment.to_window(planes.float().clamp(*window), *window)[:, 0]
        keys = torch.stack([of_view(batch.random, view) for view in range(VIEWS)], 1)  # (B, 4)
        twice = planes.flatten(0, 1)[:, None].expand(-1, 2, -1, -1)  # warp wants two voxels along each axis
        seen = augment.augmented(self.augment, twice, keys.flatten(), window)  # (4B, 1, 2, E, E)
        return seen[:, 0, 0].unflatten(0, (-1, VIEWS))


def montage(planes: Tensor) -> Tensor:
    """(B, 1, 2E, 2E): the first two of planes (B, 4, E, E) beside each other, above the other two."""
    rows = planes.unflatten(1, (2, 2)).transpose(2, 3)  # (B, 2, E, 2, E)
    return rows.flatten(3, 4).flatten(1, 2)[:, None]


class SliceCnn(Supervised):
    """The method."""

    network_class = MontageNetwork

    @classmethod
    def fresh(cls, options: Options, atlas: Atlas, outputs: int) -> MontageNetwork:  # type: ignore[override]
        """The network with fresh weights, and the places of the atlas's landmarks."""
        network = cls.embedder(options, len(atlas.landmarks_mm), outputs)
        network.coordinates.copy_(torch.from_numpy(atlas.coordinates()))
        return network

    @classmethod
    def embedder(  # type: ignore[override]
        cls, options: Options, landmarks: int = 0, outputs: int = 1
    ) -> MontageNetwork:
        """What weights are loaded into."""
        return MontageNetwork(options, outputs, landmarks)

    def batch(self) -> int:
        """Scans in a step."""
        return int(self.options.scan_batch)  # type: ignore[attr-defined]
