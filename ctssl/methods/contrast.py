"""Contrast with momentum: InfoNCE, queues of keys that know their subject, the momentum update."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

NOBODY = -1
"""The subject of a key that was drawn at random; it never equals a query's."""


class Keys(NamedTuple):
    """Keys (K, F) of length one and the subject (K,) of each."""

    vectors: Tensor
    subjects: Tensor


class KeyQueue(nn.Module):
    """Rings of the latest keys, one ring per landmark (or a single one).

    A ring starts with directions drawn at random, which belong to nobody. Its size need not be a
    multiple of the batch.

    Args:
        rings: how many rings L.
        size: keys K in each.
        features: width F of a key.

    Source: MoCo (arXiv 1911.05722, algorithm 1), one queue per region as in
    batmanlab/Context_Aware_SSL@6fa7acb; the subjects are ours.
    """

    vectors: Tensor
    subjects: Tensor
    cursor: Tensor

    def __init__(self, rings: int, size: int, features: int) -> None:
        super().__init__()
        self.register_buffer("vectors", functional.normalize(torch.randn(rings, size, features), dim=2))
        self.register_buffer("subjects", torch.full((rings, size), NOBODY))
        self.register_buffer("cursor", torch.zeros(rings, dtype=torch.long))

    def keys(self, ring: int) -> Keys:
        """All keys of a ring."""
        return Keys(self.vectors[ring], self.subjects[ring])

    @torch.no_grad()
    def enqueue(self, ring: int, keys: Keys) -> None:
        """Replace the oldest keys of a ring; of more keys than it holds the last ones stay."""
        size = self.vectors.shape[1]
        vectors, subjects = keys.vectors[-size:], keys.subjects[-size:]
        places = (self.cursor[ring] + torch.arange(len(vectors), device=vectors.device)) % size
        self.vectors[ring, places] = vectors.to(self.vectors.dtype)
        self.subjects[ring, places] = subjects
        self.cursor[ring] = (self.cursor[ring] + len(vectors)) % size


def info_nce(query: Tensor, positive: Keys, negatives: Keys, temperature: float) -> dict[str, Tensor]:
    """InfoNCE in float32 as `total`, and `top1`, the share of queries that are nearest to their own key.

    Negatives of the query's own subject do not count: in a cohort smaller than the queue each subject
    is in it several times, and would be told apart from itself.

    Args:
        query: (B, F) of length one.
        positive: (B, F) keys of the same samples; their subjects are the queries' subjects.
        negatives: (K, F).
        temperature: divides the cosines.

    Source: paper Eq. 5 and 8; the mask is ours.
    """
    with torch.autocast(query.device.type, enabled=False):
        query = query.float()
        own = positive.subjects[:, None] == negatives.subjects[None, :]  # (B, K)
        alike = (query * positive.vectors.float()).sum(1, keepdim=True)  # (B, 1)
        unlike = (query @ negatives.vectors.float().T).masked_fill(own, -torch.inf)  # (B, K)
        logits = torch.cat([alike, unlike], 1) / temperature
        first = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        total = functional.cross_entropy(logits, first)
    nearest = alike[:, 0] > unlike.amax(1)  # a tie, as of a collapsed network, is no hit
    return {"total": total, "top1": nearest.float().mean()}


@torch.no_grad()
def follow(key: nn.Module, query: nn.Module, momentum: float) -> None:
    """Move the key network's parameters: k <- m k + (1 - m) q. Buffers stay its own.

    Done after each step of the query, so that the next keys see it: the order of MoCo.
    """
    for k, q in zip(key.parameters(), query.parameters(), strict=True):
        k.lerp_(q, 1 - momentum)
