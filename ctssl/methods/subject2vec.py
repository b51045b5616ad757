"""subject2vec: a network of all patches of a scan at once, with attention, that also gives them back.

Source: Singla et al., "Subject2Vec: Generative-Discriminative Approach from a Set of Image Patches to a
Vector", MICCAI 2018, and its released code.
"""

from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional

from ctssl.config.methods import Subject2Vec as Options
from ctssl.errors import CohortError
from ctssl.methods import Phase
from ctssl.methods.supervised import Network, Said, Supervised, dropped
from ctssl.networks.decoder3d import PatchDecoder
from ctssl.networks.patchset import SetAttention, SetEncoder
from ctssl.prepare.atlas import Atlas
from ctssl.train import augment
from ctssl.train.batches import Batch
from ctssl.train.labels import Task

HIDDEN = 64
"""Width between the layers of attention."""

DECODED = ((64, 32), (32, 16), (16, 8), ())
"""Channels of the decoder after its first stage: those of the encoder in reverse."""

LEAST_WEIGHT = 1e-4
"""Added to an attention weight before its logarithm."""


class SetNetwork(Network):
    """Encoder and attention, which make a vector of a scan.

    Attributes:
        encoder: of each patch.
        attention: how much each counts.
        share: what a weighted patch gives to the vector.
        outputs: what the vector says.
    """

    def __init__(self, options: Options, outputs: int) -> None:
        super().__init__()
        self.options, width = options, options.feature_size
        self.encoder = SetEncoder(width)
        self.attention = SetAttention(width, HIDDEN)
        self.share, self.outputs = nn.Linear(width, width), nn.Linear(width, outputs)
        for dense in (self.attention.first, self.attention.second, self.share, self.outputs):
            nn.init.xavier_uniform_(dense.weight)
            nn.init.zeros_(dense.bias)  # as released: a bias of `share` counts as often as there are patches

    def forward(self, batch: Batch) -> Said:
        """The vectors, sums over patches, and what they say."""
        return self.weighed(batch)[0]

    def weighed(self, batch: Batch) -> tuple[Said, Tensor, Tensor]:
        """What `forward` gives, then (M, F) encoded patches, then (M,) how much each counts.

        Raises:
            CohortError: a scan shows no landmark.
        """
        if not all(batch.counts):
            raise CohortError(
                "a set of patches holds one at least, but a scan shows no landmark",
                "exclude scans without valid landmarks in the manifest",
            )
        counts = list(batch.counts)
        encoded = self.encoder(self.windowed(batch), patch_groups(batch))
        with torch.autocast(encoded.device.type, enabled=False):
            weights = self.attention(encoded, counts)
            shares = functional.elu(self.share(weights[:, None] * encoded))  # (M, F)
            if self.training:
                shares = dropped(shares, batch.random, self.options.dropout)
            vectors = torch.stack([one.sum(0) for one in shares.split(counts)])  # (B, F)
            return Said(self.outputs(vectors), vectors, {}), encoded, weights

    def windowed(self, batch: Batch) -> Tensor:
        """(M, 1, E, E, E) the patches, window onto 0 to 1."""
        low, high = self.options.hu_min, self.options.hu_max
        return (augment.to_window(batch.patches.float().clamp(low, high), low, high) + 1) / 2


def patch_groups(batch: Batch) -> list[int]:
    """Patches of each batch norm group, which holds whole scans."""
    counts = iter(batch.counts)
    return [sum(islice(counts, scans)) for scans in batch.groups]


class Subject2Vec(Supervised):
    """The method.

    Attributes:
        decoder: from encoded patches back to patches; it is not kept.
    """

    network_class = SetNetwork
    network: SetNetwork
    options: Options

    def __init__(self, options: Options, atlas: Atlas, task: Task) -> None:
        super().__init__(options, atlas, task)
        width = options.feature_size
        self.decoder = PatchDecoder(width, atlas.patch_voxels, ((width, 64), *DECODED))

    def batch(self) -> int:
        """Scans in a step."""
        return self.options.scan_batch

    def phases(self) -> list[Phase]:
        """One: labels are predicted, and patches given back."""
        [phase] = super().phases()
        return [replace(phase, parameters=[*phase.parameters, *self.decoder.parameters()])]

    def said(self, batch: Batch) -> Said:
        """What the network says, with two terms of the loss: `reconstruction` and `attention`."""
        network = self.network.train()
        said, encoded, weights = network.weighed(batch)
        made = self.decoder.train()(encoded, patch_groups(batch)).float()
        squared = (made - network.windowed(batch)).square().flatten(1).mean(1)  # (M,)
        logarithms = (weights + LEAST_WEIGHT).log()
        counts, options = list(batch.counts), self.options
        scans = list(zip(squared.split(counts), logarithms.split(counts), strict=True))
        terms = {
            "reconstruction": options.reconstruction_weight
            * torch.stack([e.mean() for e, _ in scans]).mean(),
            "attention": options.attention_weight * torch.stack([w.sum() for _, w in scans]).mean(),
        }
        return replace(said, terms=terms)

    def networks(self) -> list[nn.Module]:
        """The network and the decoder."""
        return [self.network, self.decoder]
