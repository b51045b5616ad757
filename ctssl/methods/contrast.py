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
    batmanlab/Context_Aware_SSL@6fa7acb; subjects and ages are ours.
    """

    vectors: Tensor
    subjects: Tensor
    cursor: Tensor
    born: Tensor
    clock: Tensor

    def __init__(self, rings: int, size: int, features: int) -> None:
        super().__init__()
        self.register_buffer("vectors", functional.normalize(torch.randn(rings, size, features), dim=2))
        self.register_buffer("subjects", torch.full((rings, size), NOBODY))
        self.register_buffer("cursor", torch.zeros(rings, dtype=torch.long))
        self.register_buffer("born", torch.zeros(rings, size, dtype=torch.long))
        self.register_buffer("clock", torch.zeros((), dtype=torch.long))

    def keys(self, ring: int) -> Keys:
        """All keys of a ring."""
        return Keys(self.vectors[ring], self.subjects[ring])

    def age(self, ring: int) -> Tensor:
        """(): steps since the keys of a ring were made, the mean over those that were; 0 when none was."""
        made = self.subjects[ring] != NOBODY
        ages = (self.clock - self.born[ring]) * made
        return ages.sum() / made.sum().clamp(min=1)

    @torch.no_grad()
    def enqueue(self, ring: int, keys: Keys) -> None:
        """Replace the oldest keys of a ring; of more keys than it holds the last ones stay."""
        size = self.vectors.shape[1]
        vectors, subjects = keys.vectors[-size:], keys.subjects[-size:]
        places = (self.cursor[ring] + torch.arange(len(vectors), device=vectors.device)) % size
        self.vectors[ring, places] = vectors.to(self.vectors.dtype)
        self.subjects[ring, places] = subjects
        self.born[ring, places] = self.clock
        self.cursor[ring] = (self.cursor[ring] + len(vectors)) % size
        self.clock += 1


def info_nce(
    query: Tensor, positive: Keys, negatives: Keys, temperature: float, *, random: bool
) -> dict[str, Tensor]:
    """InfoNCE in float32 as `total`; `top1`, the share of queries nearest to their own key; `alignment`.

    Negatives of the query's own subject do not count: in a cohort smaller than the queue each subject
    is in it several times, and would be told apart from itself. A query without any negative has loss 0.

    Args:
        query: (B, F) of length one.
        positive: (B, F) keys of the same samples; their subjects are the queries' subjects.
        negatives: (K, F).
        temperature: divides the cosines.
        random: whether the directions that a queue starts with count as negatives.

    Source: paper Eq. 5 and 8; the mask is ours. Alignment, the mean squared distance of a query from its
    key: Wang and Isola, ICML 2020.
    """
    with torch.autocast(query.device.type, enabled=False):
        query = query.float()
        out = positive.subjects[:, None] == negatives.subjects[None, :]  # (B, K)
        if not random:
            out = out | (negatives.subjects == NOBODY)
        alike = (query * positive.vectors.float()).sum(1, keepdim=True)  # (B, 1)
        unlike = (query @ negatives.vectors.float().T).masked_fill(out, -torch.inf)  # (B, K)
        logits = torch.cat([alike, unlike], 1) / temperature
        first = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        total = functional.cross_entropy(logits, first)
        alignment = (query - positive.vectors.float()).square().sum(1).mean()
    # a tie, as of a collapsed network, is no hit, nor is a query that nothing is compared with
    nearest = (alike[:, 0] > unlike.amax(1)) & ~out.all(1)
    return {"total": total, "top1": nearest.float().mean(), "alignment": alignment}


def spread(vectors: Tensor) -> dict[str, Tensor]:
    """How keys (B, F) of length one fill the sphere: `embedding_std` and `uniformity`; 0 is a collapse.

    embedding_std is the standard deviation of a coordinate over the keys, the mean over coordinates, times
    sqrt(F): 1 for directions without order. Uniformity is log of the mean of exp(-2 d^2) over pairs, d their
    distance: near -4 for directions without order.

    Source: uniformity with t = 2, Wang and Isola, ICML 2020; the first is the check of SimSiam, CVPR 2021.
    """
    vectors = vectors.float()
    std = vectors.std(0, correction=0).mean() * vectors.shape[1] ** 0.5
    if len(vectors) < 2:
        return {"embedding_std": std, "uniformity": torch.zeros_like(std)}
    return {"embedding_std": std, "uniformity": torch.pdist(vectors).square().mul(-2).exp().mean().log()}


@torch.no_grad()
def follow(key: nn.Module, query: nn.Module, momentum: float) -> None:
    """Move the key network's parameters, all at once: k <- m k + (1 - m) q. Buffers stay its own.

    Done after each step of the query, so that the next keys see it: the order of MoCo.
    """
    keys: list[Tensor] = list(key.parameters())
    queries: list[Tensor] = list(query.parameters())
    if len(keys) != len(queries):
        msg = f"a key network has the parameters of its query, but {len(keys)} are not {len(queries)}"
        raise ValueError(msg)
    torch._foreach_lerp_(keys, queries, 1 - momentum)
