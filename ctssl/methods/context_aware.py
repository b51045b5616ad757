"""context-aware: a conditional patch encoder and a graph network, each trained by contrast.

Source: Sun, Yu, Batmanghelich, "Context Matters: Graph-based Self-supervised Representation Learning
for Medical Images", AAAI 2021; batmanlab/Context_Aware_SSL@6fa7acb where the options say so.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ctssl.config.methods import ContextAware as Options
from ctssl.methods import Made, Phase
from ctssl.methods.contrast import KeyQueue, Keys, follow, info_nce
from ctssl.networks.conv3d import PatchEncoder
from ctssl.networks.graph import GraphNetwork, Graphs
from ctssl.prepare.atlas import Atlas
from ctssl.train import augment
from ctssl.train.batches import Batch
from ctssl.train.random import of_view

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
        width, layers = options.feature_size, options.head_layers
        self.encoder = PatchEncoder(width, layers, conditional=options.conditional)
        self.graph = GraphNetwork(width, layers) if options.graph else None

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
        features = self._patches(batch.patches)
        graphs = Graphs(batch.counts, batch.edges)
        return graphs.mean(features) if self.graph is None else self.graph.subjects(features, graphs)

    @torch.no_grad()
    def embed_patches(self, patches: Tensor, coordinates: Tensor) -> Tensor:
        """(M, F): C(x) of patches (M, E, E, E) in HU, which is a node's feature: its place does not enter."""
        self.eval()
        return self._patches(patches)

    def _patches(self, patches: Tensor) -> Tensor:
        """(M, F): C(x) of patches (M, E, E, E) in HU, window onto -1 to 1."""
        low, high = self.options.hu_min, self.options.hu_max
        return self.trunk(augment.to_window(patches.float().clamp(low, high), low, high))


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

    @classmethod
    def build(cls, options: Options, atlas: Atlas) -> "ContextAware":
        """The method with fresh weights from torch's random numbers."""
        return cls(options, atlas)

    @classmethod
    def embedder(cls, options: Options, landmarks: int = 0) -> Embedder:
        """What weights are loaded into; holds no queues."""
        return Embedder(options)

    def phases(self) -> list[Phase]:
        """T_l rounds for the encoder, then T_g steps for the graph network."""
        o = self.options
        phases = [
            Phase(
                name="patch",
                unit="landmark",
                batch=o.patch_batch,
                rounds=o.patch_rounds,
                parameters=list(self.query.encoder.parameters()),
                groups=o.bn_groups,
                keys=self.patch_keys,
                key_features=o.feature_size,
                loss=self.patch_loss,
            )
        ]
        if self.query.graph is not None:
            graph = Phase(
                name="graph",
                unit="scan",
                batch=o.graph_batch,
                rounds=o.graph_steps,
                parameters=list(self.query.graph.parameters()),
                groups=o.bn_groups,
                keys=self.graph_keys,
                key_features=o.feature_size,
                loss=self.graph_loss,
            )
            phases.append(graph)
        return phases

    @torch.no_grad()
    def patch_keys(self, batch: Batch) -> Tensor:
        """(B, F) of length one: the key encoder's projections of the second view of each patch."""
        self.key.encoder.train()
        second = self._view(batch, 1)
        projected = self.key.encoder(second, self.coordinates[batch.landmarks], batch.groups)
        return functional.normalize(projected.float())

    def patch_loss(self, batch: Batch, keys: Tensor | None) -> dict[str, Tensor]:
        """L_l (Eq. 5) of patches of one landmark across scans.

        Raises:
            ValueError: the batch mixes landmarks.
        """
        if batch.landmark is None:
            msg = f"a patch batch is of one landmark, but this has {batch.landmarks.unique().tolist()}"
            raise ValueError(msg)
        self.query.encoder.train()
        first = self._view(batch, 0)
        query = self.query.encoder(first, self.coordinates[batch.landmarks], batch.groups)
        return self._contrast(query, keys, batch.subjects, self.patch_queue, batch.landmark)

    @torch.no_grad()
    def graph_keys(self, batch: Batch) -> Tensor:
        """(B, F) of length one: the key graph network's projections of the second view of each scan.

        Both views go through the query encoder in evaluation mode, as released.
        """
        _, graph, _ = self._pair("graph")
        graph.train()
        projected = graph(self._nodes(batch, 1), Graphs(batch.counts, batch.edges), batch.groups)
        return functional.normalize(projected.float())

    def graph_loss(self, batch: Batch, keys: Tensor | None) -> dict[str, Tensor]:
        """L_g (Eq. 8) of whole scans on features of the encoder as it is, which gets no gradient."""
        graph, _, queue = self._pair("graph")
        graph.train()
        query = graph(self._nodes(batch, 0), Graphs(batch.counts, batch.edges), batch.groups)
        return self._contrast(query, keys, batch.subjects, queue, 0)

    def networks(self) -> list[nn.Module]:
        """Both encoders, which the patch phase runs forward and back."""
        return [self.query.encoder, self.key.encoder]

    def before_loss(self, phase: Phase, made: Made) -> None:
        """With batch_negatives the phase's queue takes the keys of this step; own subjects are masked."""
        if self.options.batch_negatives:
            self._enqueue(phase, made)

    def after_step(self, phase: Phase, made: Made | None) -> None:
        """The phase's key network follows; without batch_negatives its queue takes the keys of this step."""
        assert made is not None, "both phases make keys"
        query, key, _ = self._pair(phase.name)
        follow(key, query, self.options.momentum)
        if not self.options.batch_negatives:
            self._enqueue(phase, made)

    def _enqueue(self, phase: Phase, made: Made) -> None:
        """The phase's queue takes the keys of a step."""
        _, _, queue = self._pair(phase.name)
        queue.enqueue(made.landmark, Keys(made.vectors, made.subjects))

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
        self, query: Tensor, keys: Tensor | None, subjects: Tensor, queue: KeyQueue, ring: int
    ) -> dict[str, Tensor]:
        """InfoNCE of projections (B, F) with their keys; how old the negatives are."""
        assert keys is not None, "both phases make keys"
        query = functional.normalize(query.float())
        o, ours = self.options, Keys(keys, subjects)
        terms = info_nce(query, ours, queue.keys(ring), o.temperature, random=o.random_negatives)
        return {**terms, "queue_age": queue.age(ring)}

    def _view(self, batch: Batch, number: int) -> Tensor:
        """(M, 1, E, E, E) windowed patches of a view, each augmented for itself."""
        o = self.options
        return augment.augmented(
            o.augment, batch.patches, of_view(batch.random, number), (o.hu_min, o.hu_max)
        )

    def _nodes(self, batch: Batch, number: int) -> Tensor:
        """(M, F): C(x) of one view, scan by scan to bound memory.

        Shared: a scan's patches have one draw, that of the scan; only noise is each patch's own.
        """
        self.query.encoder.eval()
        o, counts = self.options, list(batch.counts)
        own, whole = of_view(batch.random, number).split(counts), of_view(batch.scan_random, number).split(1)
        nodes = []
        for patches, keys, scan in zip(batch.patches.split(counts), own, whole, strict=True):
            draws = (scan, torch.zeros_like(keys)) if o.graph_augmentation == "shared" else None
            view = augment.augmented(o.augment, patches, keys, (o.hu_min, o.hu_max), draws=draws)
            nodes.append(self.query.trunk(view))
        return torch.cat(nodes)
