"""The graph network G: one graph convolution over a scan's landmarks, a mean, a dense head."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from ctssl.networks.batchnorm import GroupedBatchNorm
from ctssl.networks.conv3d import dense_head


@dataclass(frozen=True)
class Graphs:
    """Several scans' graphs, one after the other.

    Attributes:
        counts: nodes of each of the B scans; they sum to M.
        edges: (E, 2) undirected pairs of nodes, numbers 0 to M - 1, each pair once or more.
    """

    counts: Sequence[int]
    edges: Tensor

    def mean(self, nodes: Tensor) -> Tensor:
        """(B, F): the mean over each scan's nodes of (M, F)."""
        parts = nodes.split(list(self.counts))
        return torch.stack([part.mean(0) for part in parts])


class GraphConvolution(nn.Module):
    """D^-1/2 (A + I) D^-1/2 H W + b, paper Eq. 6 before the nonlinearity."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.lin = nn.Linear(inputs, outputs, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_uniform_(self.lin.weight)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """(M, outputs) for nodes (M, inputs) and edges (E, 2)."""
        source, target, weight = normalised_adjacency(edges, len(nodes))
        messages = self.lin(nodes)
        sums = torch.zeros_like(messages)
        return sums.index_add(0, target, messages[source] * weight[:, None].to(messages)) + self.bias


def normalised_adjacency(edges: Tensor, nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Source, target and weight of the entries of D^-1/2 (A + I) D^-1/2.

    Every node gets its self loop exactly once, also when `edges` holds it already or holds a pair twice.
    """
    loops = torch.arange(nodes, device=edges.device)
    pairs = edges[edges[:, 0] != edges[:, 1]].sort(1).values.unique(dim=0)
    source = torch.cat([pairs[:, 0], pairs[:, 1], loops])
    target = torch.cat([pairs[:, 1], pairs[:, 0], loops])
    scale = torch.bincount(target, minlength=nodes).float().rsqrt()
    return source, target, scale[source] * scale[target]


class GraphNetwork(nn.Module):
    """S = f(mean over nodes of ELU(BN(GCN(H)))), paper Eq. 6 and 7.

    Args:
        features: width F of nodes, S' and projection.
        head_layers: dense layers of f.

    Source: paper section "Learning Graph-level Representation"; layers of
    batmanlab/Context_Aware_SSL@6fa7acb.
    """

    def __init__(self, features: int, head_layers: int) -> None:
        super().__init__()
        self.conv1 = GraphConvolution(features, features)
        self.bn1 = GroupedBatchNorm(features)
        self.fc = dense_head(features, features, head_layers)

    def nodes(self, features: Tensor, graphs: Graphs, groups: Sequence[int] | None = None) -> Tensor:
        """(M, F): h', the node outputs for node features (M, F).

        Args:
            features: of all scans' nodes.
            graphs: counts and edges of the scans.
            groups: scans of each batch norm group while training; one group when None.
        """
        counts = iter(graphs.counts)
        nodes = [sum(islice(counts, scans)) for scans in groups or [len(graphs.counts)]]
        return self.bn1.elu(self.conv1(features, graphs.edges), nodes)

    def subjects(self, features: Tensor, graphs: Graphs, groups: Sequence[int] | None = None) -> Tensor:
        """(B, F): S', the mean of the node outputs, the head dropped."""
        return graphs.mean(self.nodes(features, graphs, groups))

    def forward(self, features: Tensor, graphs: Graphs, groups: Sequence[int] | None = None) -> Tensor:
        """(B, F): the projections S of the scans."""
        return self.fc(self.subjects(features, graphs, groups))


def released_graph_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a published graph network under our names.

    PyG up to 1.7 stores `conv1.weight` as (in, out), later ones `conv1.lin.weight` as (out, in). Both
    are square, so only the name tells. PyG from 1.6.1 wraps the batch norm as `bn1.module`.
    """
    named = {name.replace("bn1.module.", "bn1."): tensor for name, tensor in state.items()}
    if "conv1.weight" in named:
        named["conv1.lin.weight"] = named.pop("conv1.weight").T
    return named
