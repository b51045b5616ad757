import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from golden import fill_drasclr
from scipy.spatial.transform import Rotation
from train import synthetic

from ctssl.config.methods import DrasCLR as Options
from ctssl.methods import Made
from ctssl.methods.drasclr import DrasCLR
from ctssl.networks.batchnorm import GroupedBatchNorm, settle
from ctssl.train.batches import Cohort, Sample, read_batch
from ctssl.train.neighbours import nearest, own_rows, shown_neighbours, with_neighbours

SMALL = {"feature_size": 16, "experts": 3, "queue_size": 13, "patch_batch": 8, "bn_groups": 2}
LANDMARK = 1
"""Its two nearest on the synthetic block are 0 and 3, equally near; scan 2 does not show 0."""


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """Eight people; 2 shows neither 0 nor 3, 5 shows no 3."""
    people = synthetic.cohort(tmp_path_factory.mktemp("eight"), scans=8, hidden=[(2, 3), (5, 3)])
    people.subjects = [f"person{i}" for i in range(8)]
    return people


def build(people, **changes):
    method = DrasCLR.build(Options(**{**SMALL, **changes}), people.atlas)
    return method, method.phases()[0]


def batch_of(people, phase, scans, landmark=LANDMARK, groups=None, epoch=0):
    """The batch of a landmark with what neighbours the phase wants."""
    cohort, scans = Cohort.of(people.stores, people.subjects), np.array(scans)
    sample = Sample(scans, np.full(len(scans), landmark), scans)
    if phase.neighbours is not None:
        sample = with_neighbours(cohort, sample, phase.neighbours[landmark])
    batch = read_batch(people.stores, cohort, sample, graph=False).drawn(sample, 0, 0, epoch)
    return replace(batch, landmark=landmark, groups=groups or (len(scans),))


def spied(method, phase, batch):
    """What went into the query encoder and what came out, call by call, and the loss's terms."""
    seen, keys = [], phase.keys(batch)
    method.before_loss(phase, Made(keys, batch.subjects, LANDMARK))
    note = lambda _, inputs, out: seen.append((*inputs, out.detach()))  # noqa: E731
    hook = method.query.encoder.register_forward_hook(note)
    terms = phase.loss(batch, keys)
    hook.remove()
    return seen, keys, terms


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def in_numpy(sums, keys, queue, owners, subjects, temperature):
    """-log of the share of exp(sum_i r_i . k / T) among it and those of the queue's other subjects."""
    losses = []
    for r, k, subject in zip(sums, keys, subjects, strict=True):
        others = [n for n, owner in zip(queue, owners, strict=True) if owner != subject]
        scores = np.exp(np.array([r @ k, *(r @ n for n in others)]) / temperature)
        losses.append(-np.log(scores[0] / scores.sum()))
    return np.array(losses)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(("beta", "temperature"), [(1.0, 0.2), (0.3, 0.5)])
def test_the_loss_is_that_of_the_formulas(eight, beta, temperature, together):
    """Local InfoNCE, and InfoNCE of the sum of the neighbours a scan shows with the same keys and queue.

    Together: in place of the five oldest of the queue come the five keys of this step.
    """
    changes = {"beta": beta, "temperature": temperature, "batch_negatives": together}
    method, phase = build(eight, random_negatives=True, **changes)
    method.queue.subjects[LANDMARK, 6:10] = torch.tensor([0, 2, 5, 7])
    queue, owners = (t.numpy().copy() for t in method.queue.keys(LANDMARK))
    scans = [4, 2, 0, 5, 7]
    batch = batch_of(eight, phase, scans)
    calls, keys, terms = spied(method, phase, batch)
    outs = [unit(out.double().numpy()) for *_, out in calls]
    if together:
        queue[:5], owners[:5] = keys, scans
    given = keys.double().numpy(), queue.astype(float), owners
    local = in_numpy(outs[0], *given, scans, temperature)
    sums, showing = np.zeros((5, 16)), {0: [4, 0, 5, 7], 3: [4, 0, 7]}
    for out, shown in zip(outs[1:], showing.values(), strict=True):
        sums[[scans.index(s) for s in shown]] += out
    of_sums = in_numpy(sums, *given, scans, temperature)
    of_sums[scans.index(2)] = 0  # no neighbour, no term
    assert float(terms["local"].detach()) == pytest.approx(local.mean(), rel=1e-4)
    assert float(terms["neighbouring"].detach()) == pytest.approx(of_sums.mean(), rel=1e-4)
    assert float(terms["total"].detach()) == pytest.approx(local.mean() + beta * of_sums.mean(), rel=1e-4)


def test_each_patch_goes_through_the_query_encoder_at_its_own_place(eight):
    method, phase = build(eight)
    calls, _, _ = spied(method, phase, batch_of(eight, phase, [4, 2, 0, 5, 7]))
    expected = torch.tensor(eight.atlas.coordinates()[[1, 0, 3]] * 2 - 1, dtype=torch.float32)
    torch.testing.assert_close(torch.cat([place for _, place, *_ in calls]), expected)
    assert [len(patches) for patches, *_ in calls] == [5, 4, 3]
    assert [tuple(groups) for _, _, groups, _ in calls] == [(5,), (4,), (3,)]


def test_neighbours_follow_the_batch_norm_group_of_their_scan(eight):
    """Of the second group only scan 6 shows landmark 3: one value has no variance, it is left out."""
    _, phase = build(eight)
    batch = batch_of(eight, phase, [4, 2, 0, 7, 5, 6], groups=(4, 2))
    first, second = shown_neighbours(batch, phase.neighbours[LANDMARK])
    assert (first.landmark, first.groups, first.scans.tolist()) == (0, (3, 2), [0, 2, 3, 4, 5])
    assert (second.landmark, second.groups, second.scans.tolist()) == (3, (3,), [0, 2, 3])
    assert batch.host_landmarks[first.rows].tolist() == [0] * 5
    owner = np.repeat(np.arange(6), batch.counts)
    assert owner[second.rows].tolist() == [0, 2, 3]


def test_a_batch_that_was_shared_out_keeps_its_neighbours(eight):
    _, phase = build(eight)
    whole = batch_of(eight, phase, [4, 2, 0, 7, 5, 6])
    part = whole.take([5, 1, 3], (3,))
    assert part.counts == (3, 1, 3)
    assert part.host_landmarks.tolist() == part.landmarks.tolist() == [1, 0, 3, 1, 1, 0, 3]
    assert part.landmark == LANDMARK
    assert own_rows(part).tolist() == [0, 3, 4]
    again = batch_of(eight, phase, [6, 2, 7])
    assert torch.equal(part.patches, again.patches)
    assert torch.equal(part.random, again.random)


def test_a_scan_without_neighbours_has_the_local_term_only(eight):
    _, phase = build(eight, random_negatives=True)
    batch = batch_of(eight, phase, [2])
    batch = replace(batch, patches=batch.patches.expand(2, 32, 32, 32), random=torch.tensor([5, 6]))
    batch = replace(batch, subjects=torch.tensor([2, 2]), counts=(1, 1), groups=(2,))
    batch = replace(batch, host_landmarks=np.array([1, 1]), scan_random=torch.tensor([7, 8]))
    terms = phase.loss(batch, phase.keys(batch))
    assert float(terms["neighbouring"]) == 0
    assert float(terms["total"].detach()) == float(terms["local"].detach()) > 0


@pytest.mark.parametrize("changes", [{"neighbours": 0}, {"beta": 0}])
def test_without_neighbourhoods_none_is_read(eight, changes):
    method, phase = build(eight, random_negatives=True, **changes)
    assert phase.neighbours is None
    calls, _, terms = spied(method, phase, batch_of(eight, phase, [4, 2, 0, 5, 7]))
    assert len(calls) == 1
    assert torch.equal(terms["total"], terms["local"])


@pytest.mark.parametrize("how", ["shared", "per-patch"])
def test_neighbours_of_a_patch_share_their_draw_or_do_not(eight, how):
    """Equal patches stay equal under one warp and gamma, and differ when each has its own."""
    method, phase = build(eight, neighbour_augmentation=how, augment={"noise_probability": 0})
    batch = batch_of(eight, phase, [4, 0, 7, 6])
    batch = replace(batch, patches=batch.patches[:1].expand_as(batch.patches))
    one, two = method._neighbour_views(batch, shown_neighbours(batch, phase.neighbours[LANDMARK]))
    assert bool(torch.equal(one, two)) is (how == "shared")
    assert not torch.equal(one[0], one[1]), "scans have draws of their own"
    own = method._view(batch, own_rows(batch), 0)
    assert not torch.isclose(own, one).all(dim=(1, 2, 3, 4)).any(), "a neighbour is no copy of a query's view"


def test_a_neighbours_view_depends_on_whose_neighbour_it_is(eight):
    """Landmark 0 is near to 1 and to 2: each time it is seen anew, and neither time as in its own turn."""
    method, phase = build(eight)
    views = []
    for landmark in (1, 2):
        batch = batch_of(eight, phase, [4, 6], landmark)
        shown = shown_neighbours(batch, phase.neighbours[landmark])
        assert shown[0].landmark == 0
        views.append(method._neighbour_views(batch, shown)[0])
    batch = batch_of(eight, phase, [4, 6], 0)
    views += [method._view(batch, own_rows(batch), number) for number in (0, 1)]
    for i, view in enumerate(views):
        for other in views[:i]:
            assert not torch.isclose(view, other).all(dim=(1, 2, 3, 4)).any()


def test_a_view_depends_on_no_other_scan_of_the_batch(eight):
    method, phase = build(eight)
    many, few = batch_of(eight, phase, [4, 2, 0, 7]), batch_of(eight, phase, [7, 0])
    one = method._neighbour_views(many, shown_neighbours(many, phase.neighbours[LANDMARK]))[0]
    two = method._neighbour_views(few, shown_neighbours(few, phase.neighbours[LANDMARK]))[0]
    torch.testing.assert_close(one[[2, 1]], two)


@pytest.mark.parametrize("together", [True, False])
def test_only_the_landmarks_own_keys_are_kept_and_the_key_network_follows(eight, together):
    method, phase = build(eight, momentum=0.75, batch_negatives=together)
    batch = batch_of(eight, phase, [4, 2, 0, 7])
    before, vectors = method.key.encoder.conv1.weight.clone(), method.queue.vectors.clone()
    keys = phase.keys(batch)
    assert keys.shape == (4, 16)
    made = Made(keys, batch.subjects, LANDMARK)
    method.before_loss(phase, made)
    assert torch.equal(method.queue.vectors, vectors) is not together
    phase.loss(batch, keys)["total"].backward()
    assert all(p.grad is None for p in method.key.parameters())
    assert all(p.grad is not None for p in phase.parameters)
    with torch.no_grad():
        for parameter in phase.parameters:
            parameter.add_(0.1)
    settle(method, lambda noted: noted)
    method.after_step(phase, made)
    query = method.query.encoder.conv1.weight.detach()
    torch.testing.assert_close(method.key.encoder.conv1.weight, 0.75 * before + 0.25 * query)
    assert (method.queue.vectors != vectors).any(2).sum(1).tolist() == [0, 4, 0, 0, 0, 0]
    assert torch.equal(method.queue.vectors[LANDMARK, :4], keys)


def test_keys_do_not_depend_on_neighbours(eight):
    """They are of the scans' own patches, in a batch with and without others."""
    _, phase = build(eight)
    alone = replace(phase, neighbours=None)
    made = [phase.keys(batch_of(eight, how, [4, 2, 0, 7])) for how in (phase, alone)]
    torch.testing.assert_close(*made)


def test_keys_are_normalised_by_their_own_batch_and_its_statistics_are_kept(eight):
    method, phase = build(eight)
    norms = [m for m in method.key.encoder.modules() if isinstance(m, GroupedBatchNorm)]
    before = [norm.running_mean.clone() for norm in norms]
    one, two = (phase.keys(batch_of(eight, phase, [4, 2, 0, last])) for last in (7, 5))
    assert not torch.allclose(one[:3], two[:3], atol=1e-3)
    settle(method, lambda noted: noted)
    for norm, old in zip(norms, before, strict=True):
        assert not torch.equal(norm.running_mean, old)


def test_a_batch_of_no_landmark_is_refused(eight):
    _, phase = build(eight)
    batch = replace(batch_of(eight, phase, [4, 2]), landmark=None)
    with pytest.raises(ValueError, match=r"one landmark, but this has \[0, 1, 3\]"):
        phase.keys(batch)


def by_hand(points, count):
    """The rule, landmark by landmark: by distance, then by number."""
    found = []
    for i, here in enumerate(points):
        apart = [(round(float(np.linalg.norm(here - p)), 3), j) for j, p in enumerate(points) if j != i]
        found.append([j for _, j in sorted(apart)[:count]])
    return np.array(found)


@pytest.mark.parametrize("count", [1, 2, 6, 40])
def test_nearest_landmarks_by_distance_then_number(count):
    """On a grid of 26 mm, where up to six are equally near, turned so that distances are not exact."""
    grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 3, indexing="ij"), -1).reshape(-1, 3) * 26
    moved = np.array([-189.122, -9.958, -1132.5])
    points = Rotation.from_euler("zyx", [0.3, -0.2, 0.1]).apply(grid) + moved
    six = np.linalg.norm(points[[4, 10, 12, 14, 16, 22]] - points[13], axis=1)
    assert len(set(six)) > 1, "rounding tells them apart"
    found = nearest(points, count)
    assert found.shape == (27, min(count, 26))
    np.testing.assert_array_equal(found, by_hand(points, count)[:, :26])
    if count == 2:
        assert found[13].tolist() == [4, 10]  # of the middle one: the lowest numbers of its six


def test_a_sample_gets_the_neighbours_its_scans_show():
    rng = np.random.default_rng(0)
    valid = rng.random((6, 9)) < 0.6
    valid[:, 4] = True
    cohort, members, near = Cohort(valid, np.arange(6)), np.array([3, 0, 5]), np.array([7, 1, 2])
    sample = with_neighbours(cohort, Sample(members, np.full(3, 4), members), near)
    expected = [(s, j) for s in members for j in (4, *near) if j == 4 or valid[s, j]]
    assert list(zip(sample.scans.tolist(), sample.landmarks.tolist(), strict=True)) == expected
    nobody = with_neighbours(cohort, Sample(*[np.empty(0, np.int64)] * 3), near)
    assert len(nobody.scans) == len(nobody.landmarks) == 0


def test_the_curve_of_a_tiny_training_is_the_one_that_was_kept(tmp_path):
    """With other instructions of the processor the losses move by far less than the tolerance."""
    kept, got = json.loads(fill_drasclr.FILE.read_text()), fill_drasclr.losses(tmp_path)
    assert len(kept["loss"]) >= 10
    for term, values in kept.items():
        np.testing.assert_allclose(got[term], values, rtol=2e-3, err_msg=term)
