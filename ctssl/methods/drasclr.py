"""drasclr: a location-conditioned patch encoder, trained by contrast of patches and of neighbourhoods.

Source: Yu et al., "DrasCLR: A Self-supervised Framework of Learning Disease-related and Anatomy-specific
Representation for 3D Lung CT Images", Medical Image Analysis 2023; batmanlab/DrasCLR@899e313.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ctssl.config.methods import DrasCLR as Options
from ctssl.methods import Made, Phase
from ctssl.methods.contrast import KeyQueue, Keys, follow, info_nce
from ctssl.networks.conditioned import ConditionedEncoder
from ctssl.prepare.atlas import Atlas
from ctssl.train import augment
from ctssl.train.batches import Batch
from ctssl.train.neighbours import Shown, nearest, own_rows, shown_neighbours
from ctssl.train.random import of_view

CHUNK = 16
"""Patches at places of their own that go through the trunk together: a kernel for each must fit a cache."""

NEIGHBOURHOOD = 2
"""First number of the views of neighbours: one for each landmark whose neighbours they are."""


class Embedder(nn.Module):
    """Encoder and the places of landmarks: what turns a scan into its features.

    Attributes:
        encoder: of which features use the trunk alone.
        coordinates: (N, 3) x, y, z of landmarks in [0, 1]; kept with the weights, which belong to them.
    """

    coordinates: Tensor

    def __init__(self, options: Options, landmarks: int) -> None:
        super().__init__()
        self.options = options
        self.encoder = ConditionedEncoder(options.feature_size, options.experts)
        self.register_buffer("coordinates", torch.zeros(landmarks, 3))

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """(B, F) features of the scans: the mean of h over the landmarks that a scan shows."""
        features = self.embed_patches(batch.patches, self.coordinates[batch.landmarks])
        return torch.stack([part.mean(0) for part in features.split(list(batch.counts))])

    @torch.no_grad()
    def embed_patches(self, patches: Tensor, coordinates: Tensor) -> Tensor:
        """(M, F): h of patches (M, E, E, E) in HU at coordinates (M, 3), x, y, z in [0, 1]."""
        self.eval()
        low, high = self.options.hu_min, self.options.hu_max
        windowed = augment.to_window(patches.float().clamp(low, high), low, high)
        parts = zip(windowed.split(CHUNK), places(coordinates).split(CHUNK), strict=True)
        return torch.cat([self.encoder.trunk(part, where) for part, where in parts]).float()


def places(coordinates: Tensor) -> Tensor:
    """(M, 3) in [-1, 1], as the network takes them, of coordinates in [0, 1]."""
    return coordinates * 2 - 1


class DrasCLR(nn.Module):
    """The method: queries that learn, keys that follow, a queue per landmark.

    Attributes:
        query: the embedder that is trained and kept.
        key: the embedder that follows it.
        near: (N, k) the nearest landmarks of each, or None without neighbourhoods.
    """

    def __init__(self, options: Options, atlas: Atlas) -> None:
        super().__init__()
        self.options = options
        count = len(atlas.landmarks_mm)
        self.query = self.embedder(options, count)
        self.query.coordinates.copy_(torch.from_numpy(atlas.coordinates()))
        self.key = self.embedder(options, count)
        self.key.load_state_dict(self.query.state_dict())
        self.key.requires_grad_(False)
        self.queue = KeyQueue(count, options.queue_size, options.feature_size)
        wanted = options.neighbours if options.beta > 0 else 0
        self.near = nearest(atlas.landmarks_mm, wanted) if wanted else None

    @classmethod
    def build(cls, options: Options, atlas: Atlas) -> "DrasCLR":
        """The method with fresh weights from torch's random numbers."""
        return cls(options, atlas)

    @classmethod
    def embedder(cls, options: Options, landmarks: int = 0) -> Embedder:
        """What weights are loaded into; holds no queues."""
        return Embedder(options, landmarks)

    def phases(self) -> list[Phase]:
        """One: patches of a landmark across scans, with those of its neighbours."""
        o = self.options
        patch = Phase(
            name="patch",
            unit="landmark",
            batch=o.patch_batch,
            rounds=1,
            parameters=list(self.query.encoder.parameters()),
            groups=o.bn_groups,
            keys=self.keys,
            key_features=o.feature_size,
            loss=self.loss,
            neighbours=self.near,
        )
        return [patch]

    @torch.no_grad()
    def keys(self, batch: Batch) -> Tensor:
        """(B, F) of length one: the key encoder's projections of the second view of each scan's own patch."""
        self.key.encoder.train()
        second = self._view(batch, own_rows(batch), 1)
        return functional.normalize(
            self.key.encoder(second, self._place(_landmark(batch)), batch.groups).float()
        )

    def loss(self, batch: Batch, keys: Tensor | None) -> dict[str, Tensor]:
        """L_local + beta L_neighbouring of patches of one landmark across scans.

        `local` and `neighbouring` are the two; `top1`, `alignment` and `queue_age` are of the first.

        Raises:
            ValueError: the batch is of no landmark.
        """
        assert keys is not None, "the phase makes keys"
        landmark, o = _landmark(batch), self.options
        self.query.encoder.train()
        first = self._view(batch, own_rows(batch), 0)
        query = functional.normalize(self.query.encoder(first, self._place(landmark), batch.groups).float())
        positive, negatives = Keys(keys, batch.subjects), self.queue.keys(landmark)
        local = info_nce(query, positive, negatives, o.temperature, random=o.random_negatives)
        near = self._neighbouring(batch, positive, negatives)
        total = local["total"] + o.beta * near
        age = self.queue.age(landmark)
        return {**local, "total": total, "local": local["total"], "neighbouring": near, "queue_age": age}

    def _neighbouring(self, batch: Batch, positive: Keys, negatives: Keys) -> Tensor:
        """(): InfoNCE of the sum over neighbours of r_i with the keys of the landmark, the mean over scans.

        r_i, of length one, is the query encoder's projection of neighbour i at its own place. Neighbours
        that a scan does not show are no part of its sum; a scan that shows none adds 0 to the mean.
        """
        if self.near is None:
            return positive.vectors.new_zeros(())
        shown = shown_neighbours(batch, self.near[_landmark(batch)])
        if not shown:
            return positive.vectors.new_zeros(())
        sums = torch.zeros_like(positive.vectors)
        for one, view in zip(shown, self._neighbour_views(batch, shown), strict=True):
            projected = self.query.encoder(view, self._place(one.landmark), one.groups)
            sums = sums.index_add(0, _on(one.scans, sums), functional.normalize(projected.float()))
        scans = np.unique(np.concatenate([one.scans for one in shown]))
        kept = _on(scans, sums)
        own = Keys(positive.vectors[kept], positive.subjects[kept])
        o = self.options
        terms = info_nce(sums[kept], own, negatives, o.temperature, random=o.random_negatives)
        return terms["total"] * (len(scans) / len(sums))

    def networks(self) -> list[nn.Module]:
        """Both encoders."""
        return [self.query.encoder, self.key.encoder]

    def before_loss(self, phase: Phase, made: Made) -> None:
        """With batch_negatives the landmark's queue takes the keys of this step; own subjects are masked."""
        if self.options.batch_negatives:
            self.queue.enqueue(made.landmark, Keys(made.vectors, made.subjects))

    def after_step(self, phase: Phase, made: Made | None) -> None:
        """The key network follows; without batch_negatives the queue takes the keys of this step."""
        assert made is not None, "the phase makes keys"
        follow(self.key.encoder, self.query.encoder, self.options.momentum)
        if not self.options.batch_negatives:
            self.queue.enqueue(made.landmark, Keys(made.vectors, made.subjects))

    def embed(self, batch: Batch) -> Tensor:
        """(B, F) features of the scans."""
        return self.query.embed(batch)

    def _place(self, landmark: int) -> Tensor:
        """(1, 3) in [-1, 1]."""
        return places(self.query.coordinates[landmark : landmark + 1])

    def _view(self, batch: Batch, rows: np.ndarray, number: int) -> Tensor:
        """(m, 1, E, E, E) windowed patches of a view, each augmented for itself."""
        o, at = self.options, _on(rows, batch.random)
        keys = of_view(batch.random[at], number)
        return augment.augmented(o.augment, batch.patches[at], keys, (o.hu_min, o.hu_max))

    def _neighbour_views(self, batch: Batch, shown: list[Shown]) -> tuple[Tensor, ...]:
        """For each neighbour (m, 1, E, E, E) windowed patches of one view.

        Shared: a scan's neighbours have one draw; noise itself is each patch's own. A landmark that is
        neighbour of several has another view for each of them.
        """
        o, number = self.options, NEIGHBOURHOOD + _landmark(batch)
        at = _on(np.concatenate([one.rows for one in shown]), batch.random)
        keys, draws = of_view(batch.random[at], number), None
        if o.neighbour_augmentation == "shared":
            owner = _on(np.concatenate([one.scans for one in shown]), batch.random)
            draws = (of_view(batch.scan_random, number), owner)
        views = augment.augmented(o.augment, batch.patches[at], keys, (o.hu_min, o.hu_max), draws=draws)
        return views.split([len(one.rows) for one in shown])


def _landmark(batch: Batch) -> int:
    """The landmark that a batch is of."""
    if batch.landmark is None:
        msg = f"a batch is of one landmark, but this has {np.unique(batch.host_landmarks).tolist()}"
        raise ValueError(msg)
    return batch.landmark


def _on(numbers: np.ndarray, like: Tensor) -> Tensor:
    """These numbers, long, on the device of a tensor, which is not waited for."""
    return torch.from_numpy(numbers.astype(np.int64)).to(like.device, non_blocking=True)
