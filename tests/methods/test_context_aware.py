from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional
from train import synthetic

from ctssl.config.methods import OPTIONS
from ctssl.methods import METHODS, Made
from ctssl.methods.context_aware import ContextAware
from ctssl.networks.batchnorm import settle
from ctssl.train.batches import Cohort, Sample, read_batch, scan_sample

STILL = {
    "gamma_probability": 0,
    "noise_probability": 0,
    "rotation_deg": 0,
    "translation_voxels": 0,
    "scale": 0,
    "elastic_magnitude": 0,
}
"""An augmentation that does nothing."""


def read(crowd, sample, *, graph, epoch=0):
    """The keyed batch of a sample."""
    cohort = Cohort.of(crowd.stores, crowd.subjects)
    batch = read_batch(crowd.stores, cohort, sample, graph=graph)
    return batch.drawn(sample, seed=0, phase=int(graph), epoch=epoch)


@pytest.fixture
def landmark_batch(people):
    scans = np.array([0, 3, 2, 4])
    return read(people, Sample(scans, np.full(4, 3), scans), graph=False)


@pytest.fixture
def scan_batch(people):
    cohort = Cohort.of(people.stores, people.subjects)
    return read(people, scan_sample(cohort, np.array([1, 2, 4])), graph=True)


@pytest.fixture
def crowded(crowd):
    """A patch batch and a graph batch of eight scans."""
    cohort, scans = Cohort.of(crowd.stores, crowd.subjects), np.array([5, 0, 3, 7, 1, 2, 6, 4])
    patches = read(crowd, Sample(scans, np.full(8, 3), scans), graph=False)
    return patches, read(crowd, scan_sample(cohort, scans), graph=True)


def build(people, **changes):
    return ContextAware.build(synthetic.options(**changes), people.atlas)


def at(batch, number):
    """The batch with the random numbers of step `number`."""
    return replace(batch, random=torch.arange(len(batch.patches)) * 1009 + 7919 * (number + 1))


def losses_of(phase, batch):
    """The loss of a whole batch, by one process in one pass."""
    return phase.loss(batch, phase.keys(batch))


def spied(method, phase, batch):
    """What a phase gives to the query network and to the key network, flat."""
    query, key, _ = method._pair(phase.name)
    seen, hooks = {}, []
    for name, network in (("query", query), ("key", key)):
        note = partial(lambda name, _, inputs: seen.update({name: inputs[0].flatten(1)}), name)
        hooks.append(network.register_forward_pre_hook(note))
    losses_of(phase, batch)
    for hook in hooks:
        hook.remove()
    return seen["query"], seen["key"]


def equal_rows(query, key):
    """(M, M) bool: which inputs of the key network are which of the query network, bit by bit."""
    return torch.stack([(query == row).all(1) for row in key])


def train(method, phase, batch, steps, rate=0.05):
    optimiser = torch.optim.SGD(phase.parameters, lr=rate, momentum=0.9)
    losses = []
    for step in range(steps):
        now = at(batch, step)
        keys = phase.keys(now)
        made = Made(keys, batch.subjects, batch.landmark or 0)
        method.before_loss(phase, made)
        losses.append(phase.loss(now, keys))
        optimiser.zero_grad()
        losses[-1]["total"].backward()
        optimiser.step()
        settle(method, lambda noted: noted)
        method.after_step(phase, made)
    return [float(loss["total"].detach()) for loss in losses]


def test_every_option_has_its_method():
    assert OPTIONS.keys() == METHODS.keys()


@pytest.mark.parametrize("phase", [0, 1])
def test_training_overfits_a_batch(people, landmark_batch, scan_batch, phase):
    """The queue holds exactly the batch's keys, so guessing costs log(number of subjects)."""
    batch = (landmark_batch, scan_batch)[phase]
    count = len(batch.subjects)
    method = build(people, augment=STILL, momentum=0.9, bn_groups=1, queue_size=count)
    train(method, method.phases()[0], landmark_batch, 6, rate=0)  # running statistics and queue
    train(method, method.phases()[phase], batch, 1, rate=0)
    losses = train(method, method.phases()[phase], batch, (25, 60)[phase], rate=(0.03, 0.1)[phase])
    assert np.isfinite(losses).all()
    assert 0.2 < losses[0] < 2
    assert np.mean(losses[-3:]) < 0.5 * losses[0]


def test_gradients_go_where_they_should(people, landmark_batch, scan_batch):
    method = build(people)
    patch, graph = method.phases()
    losses_of(patch, landmark_batch)["total"].backward()
    assert all(p.grad is not None for p in method.query.encoder.parameters())
    assert all(p.grad is None for p in method.query.graph.parameters())
    method.zero_grad()
    losses_of(graph, scan_batch)["total"].backward()
    assert all(p.grad is None for p in method.query.encoder.parameters())
    assert all(p.grad is not None for p in method.query.graph.parameters())
    assert all(p.grad is None for p in method.key.parameters())


def test_a_graph_step_leaves_the_encoder_as_it_is(people, scan_batch):
    """Also its running statistics: it is in evaluation mode."""
    method = build(people)
    before = {n: t.clone() for n, t in method.query.encoder.state_dict().items()}
    train(method, method.phases()[1], scan_batch, 2)
    after = method.query.encoder.state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before)


def test_a_step_moves_keys_and_the_landmarks_own_ring(people, landmark_batch):
    method = build(people, momentum=0.75)
    key, before = method.key.encoder.conv1.weight.clone(), method.patch_queue.vectors.clone()
    train(method, method.phases()[0], landmark_batch, 1)
    query = method.query.encoder.conv1.weight.detach()
    torch.testing.assert_close(method.key.encoder.conv1.weight, 0.75 * key + 0.25 * query)
    assert method.patch_queue.cursor.tolist() == [0, 0, 0, 4, 0, 0]
    assert method.patch_queue.subjects[3, :4].tolist() == landmark_batch.subjects.tolist()
    changed = (method.patch_queue.vectors != before).any(2)
    assert changed.sum(1).tolist() == [0, 0, 0, 4, 0, 0]


@pytest.mark.parametrize("phase", [0, 1])
@pytest.mark.parametrize("together", [True, False])
def test_keys_of_the_same_step_are_negatives(crowd, crowded, phase, together):
    """InfoNCE in numpy; an empty queue and nothing but the keys of this step, of other subjects."""
    method, batch = build(crowd, batch_negatives=together), crowded[phase]
    how, queries = method.phases()[phase], []
    keys = how.keys(batch)
    method.before_loss(how, Made(keys, batch.subjects, batch.landmark or 0))
    network = method.query.encoder if phase == 0 else method.query.graph
    network.register_forward_hook(lambda _, inputs, output: queries.append(output))
    terms = how.loss(batch, keys)
    q = functional.normalize(queries[-1].detach()).double().numpy()
    cosines = q @ keys.double().numpy().T / method.options.temperature
    same = batch.subjects[:, None].numpy() == batch.subjects[None, :].numpy()
    own = np.diag(cosines)
    others = np.where(same | (not together), 0, np.exp(cosines)).sum(1)
    expected = np.log1p(others / np.exp(own)).mean()
    assert float(terms["total"].detach()) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert expected > 0.5 if together else expected == 0


@pytest.mark.parametrize("phase", [0, 1])
def test_the_two_views_of_a_sample_differ(crowd, crowded, phase):
    """Else a query is its key and nothing is learned: each view has an augmentation of its own."""
    method = build(crowd)
    query, key = spied(method, method.phases()[phase], crowded[phase])
    assert query.shape == key.shape
    assert not equal_rows(query, key).any()


@pytest.mark.parametrize("phase", [0, 1])
def test_a_key_is_made_like_a_query_by_the_network_that_follows(crowd, crowded, phase):
    """With equal weights and equal views each key is its query: alignment 0."""
    method, batch = build(crowd, augment=STILL, momentum=0.0), crowded[phase]
    assert float(losses_of(method.phases()[phase], batch)["alignment"].detach()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("phase", [0, 1])
def test_groups_have_their_own_statistics_in_queries_and_keys(crowd, crowded, phase):
    """So a key of another group than its query is not the query, with equal weights and views."""
    method, batch = build(crowd, augment=STILL, momentum=0.0), crowded[phase]
    how, halves = method.phases()[phase], replace(batch, groups=(4, 4))
    one, two = how.keys(batch), how.keys(halves)
    assert ((one - two).abs().amax(1) > 1e-4).all()
    mixed = [0, 4, 1, 5, 2, 6, 3, 7]
    other = how.keys(batch.take(mixed, (4, 4)))[torch.tensor(mixed).argsort()]
    assert ((two - other).abs().amax(1) > 1e-4).all()
    again = how.keys(batch.take(mixed, (8,)))[torch.tensor(mixed).argsort()]
    torch.testing.assert_close(one, again, atol=1e-3, rtol=1e-3)


def test_trap_1_a_batch_of_several_landmarks_is_refused(people, landmark_batch):
    """The landmark comes with the patches, and queue and coordinates are those of the batch."""
    mixed = replace(landmark_batch, landmarks=torch.tensor([3, 3, 2, 3]), landmark=None)
    with pytest.raises(ValueError, match=r"this has \[2, 3\]"):
        build(people).patch_loss(mixed, None)


def test_trap_4_the_encoder_is_told_x_y_z_of_the_atlas(people):
    method = build(people)
    places = people.atlas.landmarks_mm
    expected = (places - places.min(0)) / (places.max(0) - places.min(0))
    torch.testing.assert_close(method.coordinates, torch.tensor(expected, dtype=torch.float32))
    assert method.coordinates[1].tolist() == [1, 0, 0]  # 20 mm along x


def test_trap_8_node_features_are_the_trunks(people, scan_batch):
    """Neither head nor coordinates reach the graph."""
    method = build(people)
    before = method.embed(scan_batch)
    with torch.no_grad():
        method.coordinates.add_(1)
        for parameter in method.query.encoder.fc.parameters():
            parameter.zero_()
    assert torch.equal(method.embed(scan_batch), before)
    assert before.std() > 0


def test_trap_11_graph_augmentation_is_per_patch_or_shared(people, scan_batch):
    """Equal patches stay equal when one warp holds for all, and differ when each has its own."""
    equal = replace(scan_batch, patches=scan_batch.patches[:1].expand_as(scan_batch.patches))
    equal = replace(equal, counts=(len(equal.patches),), scan_random=equal.scan_random[:1])
    equal = at(equal, 0)
    for how, alike in (("shared", True), ("per-patch", False)):
        method = build(people, graph_augmentation=how, augment={"noise_probability": 0})
        method.query.encoder.eval()
        nodes = method._nodes(equal, 0)
        assert bool(torch.allclose(nodes, nodes[:1].expand_as(nodes), atol=1e-5)) is alike


def test_variants_without_location_and_without_graph(people, landmark_batch, scan_batch):
    blind = build(people, conditional=False)
    assert blind.query.encoder.fc[0].in_features == 16
    assert np.isfinite(train(blind, blind.phases()[0], landmark_batch, 2)).all()
    flat = build(people, graph=False)
    assert [phase.name for phase in flat.phases()] == ["patch"]
    assert not any(name.startswith(("query.graph", "graph_queue")) for name in flat.state_dict())
    features = flat.embed(scan_batch)
    windowed = (scan_batch.patches.clamp(-1024, 240).float()[:, None] + 1024) / 632 - 1
    with torch.no_grad():
        nodes = flat.query.encoder.trunk(windowed)
    means = [part.mean(0) for part in nodes.split(scan_batch.counts)]
    torch.testing.assert_close(features, torch.stack(means))


def test_embedding_is_the_mean_of_node_outputs_over_valid_landmarks(people, scan_batch):
    method = build(people)
    train(method, method.phases()[1], scan_batch, 1)
    features = method.embed(scan_batch)
    assert features.shape == (3, 16)
    assert scan_batch.counts == (5, 4, 6)
    assert torch.equal(features, method.embed(scan_batch))
    windowed = (scan_batch.patches.clamp(-1024, 240).float()[:, None] + 1024) / 632 - 1
    graph = method.query.graph
    h = (method.query.trunk(windowed) @ graph.conv1.lin.weight.T).detach().numpy()
    a = np.eye(15)
    a[tuple(scan_batch.edges.T.numpy())] = 1
    a = np.maximum(a, a.T)
    d = np.diag(a.sum(1) ** -0.5)
    with torch.no_grad():
        mixed = torch.tensor(d @ a @ d @ h, dtype=torch.float32) + graph.conv1.bias
        nodes = functional.elu(graph.bn1(mixed))
    means = [part.mean(0) for part in nodes.split([5, 4, 6])]
    torch.testing.assert_close(features, torch.stack(means), atol=1e-5, rtol=1e-4)


def test_saved_and_loaded_state_gives_the_same_next_loss(people, landmark_batch, scan_batch):
    method = build(people)
    patch, graph = method.phases()
    train(method, patch, landmark_batch, 2)
    train(method, graph, scan_batch, 2)
    torch.manual_seed(99)
    other = build(people)
    other.load_state_dict(method.state_dict())
    for i, batch in enumerate((landmark_batch, scan_batch)):
        one = losses_of(method.phases()[i], at(batch, 9))["total"]
        two = losses_of(other.phases()[i], at(batch, 9))["total"]
        assert torch.equal(one, two)


def test_losses_depend_on_the_random_numbers_given(people, landmark_batch):
    method = build(people, random_negatives=True)
    state = {n: t.clone() for n, t in method.state_dict().items()}
    losses = []
    for number in (1, 1, 2):
        method.load_state_dict(state)
        losses.append(float(losses_of(method.phases()[0], at(landmark_batch, number))["total"].detach()))
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("how", ["per-patch", "shared"])
def test_a_scans_views_do_not_depend_on_the_batch(crowd, how):
    cohort = Cohort.of(crowd.stores, crowd.subjects)
    method = build(crowd, graph_augmentation=how)
    method.query.encoder.eval()
    both = read(crowd, scan_sample(cohort, np.array([6, 2])), graph=True)
    alone = read(crowd, scan_sample(cohort, np.array([2])), graph=True)
    together = method._nodes(both, 1).split(both.counts)
    torch.testing.assert_close(method._nodes(alone, 1), together[1], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(method._nodes(alone, 0), together[1], atol=1e-5, rtol=1e-5)
