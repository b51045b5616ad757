"""moco-v2: momentum contrast of whole volumes, with a queue of scans; a baseline.

Source: Chen et al., "Improved Baselines with Momentum Contrastive Learning" (arXiv 2003.04297), for volumes
as in the comparison of Sun, Yu, Batmanghelich, AAAI 2021, as far as that says how.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ctssl.config.augment import Augment
from ctssl.config.methods import MocoV2 as Options
from ctssl.methods import Made, Phase
from ctssl.methods.contrast import KeyQueue, Keys, follow, info_nce
from ctssl.networks.volume import VolumeEncoder
from ctssl.prepare.atlas import Atlas
from ctssl.train import augment
from ctssl.train.batches import Batch
from ctssl.train.cuts import Whole
from ctssl.train.random import of_view

PATCH_VOXELS = 32
"""Voxels along an axis that the lengths of `augment` are given for."""


def scaled(options: Augment, voxels: int) -> Augment:
    """The augmentation with lengths for `voxels` along an axis in place of PATCH_VOXELS.

    Noise smoothed in three dimensions has a standard deviation that falls with sigma^1.5, so that the
    magnitude of a displacement grows with the length and with this.
    """
    factor = voxels / PATCH_VOXELS
    low, high = options.elastic_sigma_voxels
    lengths = {
        "translation_voxels": options.translation_voxels * factor,
        "elastic_sigma_voxels": (low * factor, high * factor),
        "elastic_magnitude": options.elastic_magnitude * factor**2.5,
    }
    return options.model_copy(update=lengths)


class Embedder(nn.Module):
    """The encoder of volumes.

    Attributes:
        encoder: whose trunk gives features.
        cut: the volume that `embed` is given of a scan.
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.encoder = VolumeEncoder(options.volume_voxels, options.feature_size, options.projection_size)
        field = options.field_mm
        self.cut = Whole((options.volume_voxels,) * 3, None if field is None else (field,) * 3)

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """(B, F) features: the mean over space of the trunk, before the head."""
        self.eval()
        low, high = self.options.hu_min, self.options.hu_max
        return self.encoder.trunk(augment.to_window(batch.patches.float().clamp(low, high), low, high))


class MocoV2(nn.Module):
    """The method.

    Attributes:
        query: the embedder that is trained and kept.
        key: the embedder that follows it.
        queue: keys of scans.
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.query = Embedder(options)
        self.key = Embedder(options)
        self.key.load_state_dict(self.query.state_dict())
        self.key.requires_grad_(False)
        self.queue = KeyQueue(1, options.queue_size, options.projection_size)
        self.augment = scaled(options.augment, options.volume_voxels)

    @classmethod
    def build(cls, options: Options, atlas: Atlas) -> "MocoV2":
        """The method with fresh weights from torch's random numbers."""
        return cls(options)

    @classmethod
    def embedder(cls, options: Options, landmarks: int = 0) -> Embedder:
        """What weights are loaded into; holds no queue."""
        return Embedder(options)

    def phases(self) -> list[Phase]:
        """One: volumes are told apart."""
        o = self.options
        phase = Phase(
            name="volume",
            unit="volume",
            batch=o.volume_batch,
            rounds=1,
            parameters=list(self.query.parameters()),
            groups=o.bn_groups,
            keys=self.volume_keys,
            key_features=o.projection_size,
            loss=self.volume_loss,
            cut=self.query.cut,
        )
        return [phase]

    @torch.no_grad()
    def volume_keys(self, batch: Batch) -> Tensor:
        """(B, P) of length one: the key encoder's projections of the second view of each volume."""
        self.key.train()
        return functional.normalize(self.key.encoder(self._view(batch, 1), batch.groups).float())

    def volume_loss(self, batch: Batch, keys: Tensor | None) -> dict[str, Tensor]:
        """InfoNCE of the first views with the keys of their scans, against the queue."""
        assert keys is not None, "the phase makes keys"
        self.query.train()
        query = functional.normalize(self.query.encoder(self._view(batch, 0), batch.groups).float())
        own, o = Keys(keys, batch.subjects), self.options
        terms = info_nce(query, own, self.queue.keys(0), o.temperature, random=o.random_negatives)
        return {**terms, "queue_age": self.queue.age(0)}

    def networks(self) -> list[nn.Module]:
        """Both encoders."""
        return [self.query.encoder, self.key.encoder]

    def before_loss(self, phase: Phase, made: Made) -> None:
        """With batch_negatives the queue takes the keys of this step; own subjects are masked."""
        if self.options.batch_negatives:
            self.queue.enqueue(0, Keys(made.vectors, made.subjects))

    def after_step(self, phase: Phase, made: Made | None) -> None:
        """The key network follows; without batch_negatives the queue takes the keys of this step."""
        assert made is not None, "the phase makes keys"
        follow(self.key, self.query, self.options.momentum)
        if not self.options.batch_negatives:
            self.queue.enqueue(0, Keys(made.vectors, made.subjects))

    def embed(self, batch: Batch) -> Tensor:
        """(B, F) features of the scans' volumes."""
        return self.query.embed(batch)

    def _view(self, batch: Batch, number: int) -> Tensor:
        """(B, 1, E, E, E) windowed volumes of a view, each augmented for itself."""
        window = self.options.hu_min, self.options.hu_max
        return augment.augmented(self.augment, batch.patches, of_view(batch.random, number), window)
