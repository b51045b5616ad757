"""context-aware: a conditional patch encoder and a graph network, each trained by contrast.

Source: Sun, Yu, Batmanghelich, "Context Matters: Graph-based Self-supervised Representation Learning
for Medical Images", AAAI 2021; batmanlab/Context_Aware_SSL@6fa7acb where the options say so.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ctssl.config.methods import ContextAware as Options
from ctssl.methods import Phase
from ctssl.methods.contrast import KeyQueue, Keys, follow, info_nce
from ctssl.networks.conv3d import PatchEncoder
from ctssl.networks.graph import GraphNetwork, Graphs
from ctssl.prepare.atlas import Atlas
from ctssl.train import augment
from ctssl.train.batches import Batch

CHUNK = 128
"""Patches that go through the trunk together where no gradient is wanted."""


class Embedder(nn.Module):
    """Encoder and graph network: what turns a scan into its features.

    Attributes:
        encoder: E, of which features use the trunk C alone.
        graph: G, or None for 'w/o Graph'.
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        width, layers, groups = options.feature_size, options.head_layers, options.bn_groups
        self.encoder = PatchEncoder(width, layers, conditional=options.conditional, groups=groups)
        self.graph = GraphNetwork(width, layers, groups=groups) if options.graph else None

    @torch.no_grad()
    def trunk(self, windowed: Tensor) -> Tensor:
        """(M, F): C(x) in the encoder's current mode, without gradient; windowed (M, 1, E, E, E).

        A graph's node feature is C(x), before the head and without coordinates, as released. (Eq. 6
        takes the head's output.)
        """
        return torch.cat([self.encoder.trunk(part) for part in windowed.split(CHUNK)]).float()

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """(B, F) features of the scans: S', or the mean of C(x) without a graph network."""
        self.eval()
        options = self.options
        hu = batch.patches.float().clamp(options.hu_min, options.hu_max)
        features = self.trunk(augment.to_window(hu, options.hu_min, options.hu_max))
        graphs = Graphs(batch.counts, batch.edges)
        return graphs.mean(features) if self.graph is None else self.graph.subjects(features, graphs)


class ContextAware(nn.Module):
    """The method: queries that learn, keys that follow, one queue per landmark and one of scans.

    Attributes:
        query: the embedder that is trained and kept.
        key: the embedder that follows it.
        coordinates: (N, 3) of the atlas's landmarks, x, y, z in [0, 1].
    """

    coordinates: Tensor

    def __init__(self, options: Options, atlas: Atlas) -> None:
        super().__init__()
        self.options = options
        self.query = Embedder(options)
        self.key = Embedder(options)
        self.key.load_state_dict(self.query.state_dict())
        self.key.requires_grad_(False)
        places = torch.tensor(atlas.coordinates(), dtype=torch.float32)
        self.register_buffer("coordinates", places)
        self.patch_queue = KeyQueue(len(places), options.queue_size, options.feature_size)
        self.graph_queue = KeyQueue(1, options.queue_size, options.feature_size) if options.graph else None
        self._new: tuple[int, Keys] | None = None

    @classmethod
    def build(cls, options: Options, atlas: Atlas) -> "ContextAware":
        """The method with fresh weights from torch's random numbers."""
        return cls(options, atlas)

    @classmethod
    def embedder(cls, options: Options) -> Embedder:
        """What weights are loaded into; holds no queues."""
        return Embedder(options)

    def phases(self) -> list[Phase]:
        """T_l rounds for the encoder, then T_g steps for the graph network."""
        o = self.options
        encoder = list(self.query.encoder.parameters())
        phases = [Phase("patch", "landmark", o.patch_batch, o.patch_rounds, encoder, self.patch_loss)]
        if self.query.graph is not None:
            graph = list(self.query.graph.parameters())
            phases.append(Phase("graph", "scan", o.graph_batch, o.graph_steps, graph, self.graph_loss))
        return phases

    def patch_loss(self, batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        """L_l (Eq. 5) of a batch of one landmark across scans; its keys wait for after_step.

        Raises:
            ValueError: the batch mixes landmarks.
        """
        landmark = int(batch.landmarks[0])
        if not bool((batch.landmarks == landmark).all()):
            msg = f"a patch batch is of one landmark, but this has {batch.landmarks.unique().tolist()}"
            raise ValueError(msg)
        self.query.encoder.train()
        self.key.encoder.train()
        first, second = self._view(batch.patches, rng), self._view(batch.patches, rng)
        places = self.coordinates[batch.landmarks]  # all the same, so keys may be shuffled without them
        query = self.query.encoder(first, places)
        order = self._shuffled(len(second), rng)
        with torch.no_grad():
            key = self.key.encoder(second[order], places)[order.argsort()]
        return self._contrast("patch", landmark, (query, key), batch.subjects)

    def graph_loss(self, batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        """L_g (Eq. 8) of whole scans on features of the encoder as it is, which gets no gradient.

        Both views go through the query encoder in evaluation mode, as released.
        """
        query_graph, key_graph, _ = self._pair("graph")
        self.query.encoder.eval()
        query_graph.train()
        key_graph.train()
        first, second = self._nodes(batch, rng), self._nodes(batch, rng)
        graphs = Graphs(batch.counts, batch.edges)
        query = query_graph(first, graphs)
        order = self._shuffled(len(batch.counts), rng)
        with torch.no_grad():
            reordered, nodes = graphs.reordered(order)
            key = key_graph(second[nodes], reordered)[order.argsort()]
        return self._contrast("graph", 0, (query, key), batch.subjects)

    def after_step(self, phase: Phase) -> None:
        """The phase's key network follows and its queue takes the keys of this step."""
        assert self._new is not None, "a loss comes before after_step"
        (ring, keys), self._new = self._new, None
        query, key, queue = self._pair(phase.name)
        follow(key, query, self.options.momentum)
        queue.enqueue(ring, keys)

    def embed(self, batch: Batch) -> Tensor:
        """(B, F) features of the scans."""
        return self.query.embed(batch)

    def _pair(self, phase: str) -> tuple[nn.Module, nn.Module, KeyQueue]:
        """Query network, key network and queue of a phase."""
        if phase == "patch":
            return self.query.encoder, self.key.encoder, self.patch_queue
        assert self.query.graph is not None, "there is no graph phase without a graph network"
        assert self.key.graph is not None
        assert self.graph_queue is not None
        return self.query.graph, self.key.graph, self.graph_queue

    def _contrast(
        self, phase: str, ring: int, views: tuple[Tensor, Tensor], subjects: Tensor
    ) -> dict[str, Tensor]:
        """InfoNCE of the projections of both views (query, key); the keys wait for after_step."""
        query, key = (functional.normalize(view.float()) for view in views)
        keys = Keys(key, subjects)
        self._new = (ring, keys)
        return info_nce(query, keys, self._pair(phase)[2].keys(ring), self.options.temperature)

    def _view(self, patches: Tensor, rng: np.random.Generator, *, shared: bool = False) -> Tensor:
        """(M, 1, E, E, E) windowed patches, augmented each for itself, or all of them alike."""
        o = self.options
        hu = patches.float().clamp(o.hu_min, o.hu_max)
        count = len(hu)
        owner = torch.zeros(count, dtype=torch.long) if shared else torch.arange(count)
        drawn = augment.draw(o.augment, 1 if shared else count, rng)
        return augment.to_window(augment.apply(drawn, hu, owner.to(hu.device)), o.hu_min, o.hu_max)

    def _nodes(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        """(M, F): C(x) of one augmented view, scan by scan to bound memory."""
        shared = self.options.graph_augmentation == "shared"
        scans = batch.patches.split(batch.counts.tolist())
        return torch.cat([self.query.trunk(self._view(scan, rng, shared=shared)) for scan in scans])

    def _shuffled(self, count: int, rng: np.random.Generator) -> Tensor:
        """(count,) a random order, on the method's device."""
        return torch.from_numpy(rng.permutation(count)).to(self.coordinates.device)
