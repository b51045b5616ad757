import numpy as np
import torch
from golden import fill

from ctssl.networks.conv3d import PatchEncoder
from ctssl.networks.graph import GraphConvolution, GraphNetwork, Graphs, released_graph_state


def released(state):
    network = GraphNetwork(128, 2)
    network.load_state_dict(released_graph_state(state), strict=True)
    return network.eval()


def graphs(*scans):
    """Graphs of (nodes, edges) pairs."""
    counts = [n for n, _ in scans]
    starts = np.cumsum([0, *counts])
    edges = [np.array(e, int).reshape(-1, 2) + s for (_, e), s in zip(scans, starts, strict=False)]
    return Graphs(counts, torch.from_numpy(np.concatenate(edges)))


def dense(nodes, edges, layer):
    """The paper's Eq. 6 with matrices."""
    a = np.eye(len(nodes))
    for i, j in edges:
        a[i, j] = a[j, i] = 1
    d = np.diag(a.sum(1) ** -0.5)
    weight = layer.lin.weight.detach().numpy().astype(float)
    return d @ a @ d @ nodes @ weight.T + layer.bias.detach().numpy()


@torch.no_grad()
def test_released_weights_give_the_released_outputs():
    golden = fill.outputs("context_aware_graph")
    features = torch.from_numpy(fill.outputs("context_aware_patch")["features"])
    network = released(fill.state("context_aware_graph"))
    one = graphs((6, fill.EDGES))
    np.testing.assert_allclose(network.nodes(features, one).numpy(), golden["nodes"], rtol=1e-4, atol=1e-6)
    subject = network.subjects(features, one)[0].numpy()
    np.testing.assert_allclose(subject, golden["subject"], rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_trap_7_old_files_store_the_transposed_weight():
    state = fill.state("context_aware_graph")
    old = {name.replace("bn1.module.", "bn1."): tensor for name, tensor in state.items()}
    old["conv1.weight"] = old.pop("conv1.lin.weight").T.clone()
    x, one = torch.randn(6, 128), graphs((6, fill.EDGES))
    assert torch.equal(released(old).nodes(x, one), released(state).nodes(x, one))
    wrong = {**state, "conv1.lin.weight": state["conv1.lin.weight"].T}
    assert not torch.allclose(released(wrong).nodes(x, one), released(state).nodes(x, one), atol=1e-2)


@torch.no_grad()
def test_trap_9_self_loops_count_once():
    layer = GraphConvolution(4, 4)
    layer.bias.normal_()
    x = torch.randn(6, 4)
    plain = torch.tensor(fill.EDGES)
    loops = torch.arange(6)[:, None].expand(6, 2)
    again = torch.cat([plain, loops, loops, plain.flip(1)])
    expected = dense(x.numpy(), fill.EDGES, layer)
    np.testing.assert_allclose(layer(x, plain).numpy(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(layer(x, again), layer(x, plain))


@torch.no_grad()
def test_scans_with_differing_nodes_are_batched_as_if_alone():
    network = GraphNetwork(8, 2).eval()
    network.bn1.running_mean.normal_()
    scans = [(3, [(0, 1)]), (5, [(0, 4), (1, 2), (2, 3)]), (2, [])]
    x = torch.randn(10, 8)
    together = network.subjects(x, graphs(*scans))
    for i, (part, scan) in enumerate(zip(x.split([3, 5, 2]), scans, strict=True)):
        torch.testing.assert_close(together[i : i + 1], network.subjects(part, graphs(scan)))
        h = dense(part.numpy(), scan[1], network.conv1)
        norm = (h - network.bn1.running_mean.numpy()) / np.sqrt(1 + 1e-5)
        elu = np.where(norm > 0, norm, np.expm1(norm))
        np.testing.assert_allclose(together[i].numpy(), elu.mean(0), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_batch_norm_groups_hold_whole_scans():
    network = GraphNetwork(4, 2)
    scans = [(2, []), (3, [(0, 1)]), (4, [(0, 1), (1, 2)]), (1, [])] * 2
    x = torch.randn(20, 4) * 3
    x[10:] += 5
    out = network.nodes(x, graphs(*scans), [4, 4])
    single = GraphNetwork(4, 2)
    single.load_state_dict(network.state_dict())
    torch.testing.assert_close(out[:10], single.nodes(x[:10], graphs(*scans[:4])))
    torch.testing.assert_close(out[10:], single.nodes(x[10:], graphs(*scans[4:])))


def test_trunk_features_are_the_graphs_input_width():
    encoder = PatchEncoder(12, 2, conditional=True).eval()
    assert encoder.trunk(fill.volume(2)).shape == (2, GraphNetwork(12, 2).conv1.lin.in_features)
