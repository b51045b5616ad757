"""untrained: the networks of context-aware as they start, which every training must beat.

Weights are random and stay so. Only the running statistics of batch norm become those of the cohort, so that
features are not held back by values no layer was made for.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from ctssl.config.methods import ContextAware, Untrained
from ctssl.methods import Made, Phase
from ctssl.methods.context_aware import Embedder
from ctssl.networks.batchnorm import GroupedBatchNorm
from ctssl.networks.graph import Graphs
from ctssl.prepare.atlas import Atlas
from ctssl.train import augment
from ctssl.train.batches import Batch


class Control(nn.Module):
    """The method: passes over the cohort that move no weight.

    Attributes:
        query: the embedder that is kept.
        still: what an optimiser has in place of weights.
    """

    def __init__(self, options: Untrained) -> None:
        super().__init__()
        self.options = options
        self.query = self.embedder(options)
        self.still = nn.Parameter(torch.zeros(()))

    @classmethod
    def build(cls, options: Untrained, atlas: Atlas) -> "Control":
        """The method with fresh weights from torch's random numbers."""
        return cls(options)

    @classmethod
    def embedder(cls, options: Untrained, landmarks: int = 0) -> Embedder:
        """An embedder as that of context-aware, whose head nobody asks for."""
        same = options.model_dump(include={"feature_size", "graph", "hu_min", "hu_max"})
        return Embedder(ContextAware(**same))

    def phases(self) -> list[Phase]:
        """The encoder over patches, then, where there is one, the graph network over as many scans."""
        o = self.options
        patch = Phase(
            name="patch",
            unit="landmark",
            batch=o.patch_batch,
            rounds=1,
            parameters=[self.still],
            groups=o.bn_groups,
            keys=None,
            key_features=0,
            loss=self.patch_loss,
        )
        if not o.graph:
            return [patch]
        rounds = -(-o.patch_batch // o.graph_batch)
        graph = replace(
            patch, name="graph", unit="scan", batch=o.graph_batch, rounds=rounds, loss=self.graph_loss
        )
        return [patch, graph]

    def patch_loss(self, batch: Batch, keys: Tensor | None) -> dict[str, Tensor]:
        """Zero; the encoder's batch norms note what they see."""
        _count(self.query.encoder)
        self.query.encoder.train()
        with torch.no_grad():
            self.query.encoder.trunk(self._windowed(batch), batch.groups)
        return {"total": 0 * self.still}

    def graph_loss(self, batch: Batch, keys: Tensor | None) -> dict[str, Tensor]:
        """Zero; the graph network's batch norm notes what it sees."""
        assert self.query.graph is not None, "there is no graph phase without a graph network"
        _count(self.query.graph)
        self.query.eval()
        self.query.graph.train()
        with torch.no_grad():
            nodes = self.query.trunk(self._windowed(batch))
            self.query.graph.nodes(nodes, Graphs(batch.counts, batch.edges), batch.groups)
        return {"total": 0 * self.still}

    def before_loss(self, phase: Phase, made: Made) -> None:
        """No phase makes keys."""

    def networks(self) -> list[nn.Module]:
        """The encoder."""
        return [self.query.encoder]

    def after_step(self, phase: Phase, made: Made | None) -> None:
        """Nothing is left to do."""

    def embed(self, batch: Batch) -> Tensor:
        """(B, F) features of the scans."""
        return self.query.embed(batch)

    def _windowed(self, batch: Batch) -> Tensor:
        """(M, 1, E, E, E): the patches as they are, window onto -1 to 1."""
        low, high = self.options.hu_min, self.options.hu_max
        return augment.to_window(batch.patches.float().clamp(low, high), low, high)


def _count(network: nn.Module) -> None:
    """Nothing; the running statistics become the mean over all steps, not mostly over the latest."""
    for norm in network.modules():
        if isinstance(norm, GroupedBatchNorm):
            norm.momentum = 1 / (int(norm.num_batches_tracked) + 1)
