import inspect
import math

import numpy as np
import pytest
import torch

from ctssl.train import batches
from ctssl.train.batches import (
    Cohort,
    prefetched,
    read_batch,
    scan_sample,
)
from ctssl.train.cuts import Crops, Whole
from ctssl.train.parts import Part, needed
from ctssl.train.planes import Plane, Planes
from ctssl.train.rounds import rounds_per_epoch, samples_of_round, scans_of_round, steps_of_round

PEOPLE = [0, 0, 0, 1, 2, 2, 3, 4, 5, 6, 7]


def some_cohort(subjects=PEOPLE, landmarks=9, share=0.7):
    valid = np.random.default_rng(1).random((len(subjects), landmarks)) < share
    return Cohort(valid, np.array(subjects))


def epoch_of(cohort, batch, seed, epoch):
    """The scans of each round of an epoch."""
    rounds = rounds_per_epoch(cohort, batch)
    return [scans_of_round(cohort, batch, seed, epoch * rounds + r) for r in range(rounds)]


@pytest.mark.parametrize("batch", [2, 3, 4, 50])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("subjects", [PEOPLE, [0, 0, 0, 1], [0] * 20 + list(range(1, 41))])
def test_an_epoch_has_full_rounds_and_no_subject_twice_in_a_round(subjects, batch, seed):
    cohort = some_cohort(subjects)
    rounds = math.ceil(len(subjects) / batch)
    counts = np.bincount(subjects)
    for epoch in range(3):
        dealt = epoch_of(cohort, batch, seed, epoch)
        assert len(dealt) == rounds
        for scans in dealt:
            assert len(scans) <= batch
            assert len(set(cohort.subjects[scans])) == len(scans)
        sizes = [len(scans) for scans in dealt]
        assert max(sizes) - min(sizes) <= 1
        met = np.concatenate(dealt)
        assert len(set(met)) == len(met)
        assert np.bincount(cohort.subjects[met]).tolist() == np.minimum(counts, rounds).tolist()


@pytest.mark.parametrize(("subjects", "batch"), [(PEOPLE, 50), ([0] * 20 + list(range(1, 41)), 20)])
def test_surplus_scans_of_a_subject_take_turns(subjects, batch):
    """In any row of ceil(n / rounds) epochs all n scans of a subject are met."""
    cohort = some_cohort(subjects)
    of_epoch = [set(np.concatenate(epoch_of(cohort, batch, 3, epoch))) for epoch in range(40)]
    for subject, count in enumerate(np.bincount(subjects)):
        row = math.ceil(count / rounds_per_epoch(cohort, batch))
        own = set(np.flatnonzero(cohort.subjects == subject))
        assert all(own <= set().union(*of_epoch[e : e + row]) for e in range(40 - row))


def test_who_meets_whom_changes_from_epoch_to_epoch():
    rounds = [tuple(sorted(epoch_of(some_cohort(range(12)), 4, 0, epoch)[0])) for epoch in range(6)]
    assert len(set(rounds)) == 6


def test_order_follows_from_seed_and_round_alone():
    cohort = some_cohort()

    def walk(seed, number):
        samples = samples_of_round(cohort, "landmark", 4, seed, number)
        return [(s.landmarks[0], *s.scans) for s in samples]

    first = walk(3, 5)
    walk(3, 6)
    assert walk(3, 5) == first
    assert len({tuple(walk(seed, n)) for seed in (0, 1) for n in (0, 1)}) == 4


def test_a_round_walks_over_all_landmarks_with_valid_pairs_only():
    cohort = some_cohort()
    for number in range(6):
        scans = set(scans_of_round(cohort, 4, 0, number))
        samples = samples_of_round(cohort, "landmark", 4, 0, number)
        assert all(len(set(s.landmarks)) == 1 and len(s.scans) >= 2 for s in samples)
        got = {int(s.landmarks[0]): set(s.scans) for s in samples}
        showing = {j: {s for s in scans if cohort.valid[s, j]} for j in range(9)}
        assert got == {j: who for j, who in showing.items() if len(who) >= 2}


def test_patches_of_a_batch_are_of_landmarks_of_their_own():
    """A round is every pair that is shown, each scan once in a batch; seven scans are at nine landmarks."""
    cohort = some_cohort(subjects=tuple(range(7)))
    for number in range(6):
        samples = samples_of_round(cohort, "patch", 7, 0, number)
        assert all(len(set(s.landmarks)) == len(set(s.scans)) == len(s.scans) for s in samples)
        got = [pair for s in samples for pair in zip(s.scans.tolist(), s.landmarks.tolist(), strict=True)]
        assert sorted(got) == sorted(map(tuple, np.argwhere(cohort.valid).tolist()))


@pytest.mark.parametrize("unit", ["landmark", "patch", "scan"])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.7, 1.0])
def test_steps_are_counted_as_they_are_made(unit, share):
    cohort = some_cohort(share=share)
    for number in range(8):
        made = samples_of_round(cohort, unit, 4, 5, number)
        assert steps_of_round(cohort, unit, 4, 5, number) == len(made)


SQUARE = Planes((Plane("axial", (0.5, 0.5, 0.5)),), 8, 60.0, 5.0, np.zeros((9, 3)))


@pytest.mark.parametrize(("cut", "alone"), [(Crops((8, 8, 8)), 1), (Whole((8, 8, 8)), 0), (SQUARE, 0)])
def test_a_scan_alone_is_no_batch_of_volumes_or_planes(cut, alone):
    """Seven scans, two in a round: in an epoch three rounds are of two, and one is of one."""
    cohort = some_cohort(subjects=tuple(range(7)))
    for epoch in range(3):
        numbers = range(4 * epoch, 4 * epoch + 4)
        made = [samples_of_round(cohort, cut, 2, 0, number) for number in numbers]
        sizes = sorted(len(sample.members) for samples in made for sample in samples)
        assert sizes == [1] * alone + [2, 2, 2]
        assert [steps_of_round(cohort, cut, 2, 0, n) for n in numbers] == [len(samples) for samples in made]


def test_orders_that_are_kept_are_nobody_elses():
    """Not those of another cohort, batch, seed or epoch, nor changed by who got them."""
    some, other = some_cohort(range(12)), some_cohort([0, 0, 0, *range(1, 10)])
    asked = [(c, b, s, n) for c in (some, other) for b in (3, 5) for s in (0, 1) for n in range(8)]
    first = [scans_of_round(*one) for one in asked]
    kept = [scans.copy() for scans in first]
    for scans in first:
        scans[:] = 0
    for one, scans in zip(asked, kept, strict=True):
        assert np.array_equal(scans_of_round(*one), scans)


def test_trap_1_the_landmark_travels_with_the_patch(people):
    """No region lives in the reader: read late, in any order, each patch is the one that was named."""
    cohort = Cohort.of(people.stores, people.subjects)
    samples = [s for n in range(3) for s in samples_of_round(cohort, "landmark", 3, 0, n)]
    assert len({int(s.landmarks[0]) for s in samples}) == 6
    for sample, batch in prefetched(samples, lambda s: read_batch(people.stores, cohort, s, graph=False)):
        assert batch.landmarks.tolist() == sample.landmarks.tolist()
        for patch, scan, landmark in zip(batch.patches, sample.scans, sample.landmarks, strict=True):
            assert np.array_equal(patch.numpy(), people.stores[scan].patches()[landmark])
    rooms = [v for v in vars(batches).values() if inspect.isclass(v) and v.__module__ == batches.__name__]
    assert all(room.__dataclass_params__.frozen for room in rooms)


def test_a_scan_batch_holds_valid_patches_and_edges_between_them(people):
    cohort = Cohort.of(people.stores, people.subjects)
    batch = read_batch(people.stores, cohort, scan_sample(cohort, np.array([2, 0, 1])))
    assert batch.counts == (4, 6, 5)
    assert batch.landmarks.tolist() == [1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 0, 1, 3, 4, 5]
    owner = np.repeat([2, 0, 1], batch.counts)
    pairs = {(owner[i], int(batch.landmarks[i]), int(batch.landmarks[j])) for i, j in batch.edges.tolist()}
    assert all(owner[i] == owner[j] for i, j in batch.edges.tolist())
    assert pairs == {(s, a, b) for s in (2, 0, 1) for a, b in people.stores[s].edges.tolist()}
    assert batch.subjects.tolist() == [1, 0, 0]


def test_some_scans_of_a_batch_are_the_batch_of_these_scans(people):
    """Patches and edges follow their scans, in any order."""
    cohort = Cohort.of(people.stores, people.subjects)
    sample = scan_sample(cohort, np.array([2, 0, 1, 4]))
    whole = read_batch(people.stores, cohort, sample).drawn(sample, seed=1, phase=1, epoch=0)
    for chosen in ([3, 0, 2], [1], [0, 1, 2, 3], []):
        members = np.array([2, 0, 1, 4])[chosen]
        sample = scan_sample(cohort, members)
        alone = read_batch(people.stores, cohort, sample).drawn(sample, seed=1, phase=1, epoch=0)
        part = whole.take(chosen, (len(chosen),))
        for name, values in vars(alone).items():
            got = getattr(part, name)
            if name == "edges":
                assert sorted(map(tuple, got.tolist())) == sorted(map(tuple, values.tolist()))
            elif name != "landmark":
                assert bool(np.array_equal(got, values)), name


def test_prefetching_keeps_order_and_passes_errors_on():
    assert [got for _, got in prefetched(range(9), lambda n: n * n)] == [n * n for n in range(9)]
    seen = []
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        for asked, _ in prefetched([1, 2, 0, 3, 4, 5], lambda n: 1 / n):
            seen.append(asked)
    assert seen == [1, 2]


def test_keys_are_those_of_scan_and_landmark_whatever_the_batch(people):
    cohort = Cohort.of(people.stores, people.subjects)
    sample = scan_sample(cohort, np.array([2, 1, 4]))
    batch = read_batch(people.stores, cohort, sample)
    assert len(batch.random) == len(batch.scan_random) == 0
    keyed = batch.drawn(sample, seed=7, phase=1, epoch=3)
    assert len(set(keyed.random.tolist() + keyed.scan_random.tolist())) == len(batch.patches) + 3
    for rank in range(2):
        part = needed(sample, [Part(np.array_split(np.arange(3), 2)[rank], (1,))])
        mine = batch.drawn(part, seed=7, phase=1, epoch=3)
        rows = np.isin(sample.scans, part.members)
        assert mine.random.tolist() == keyed.random[torch.from_numpy(rows)].tolist()
    assert mine.scan_random.tolist() == keyed.scan_random[-1:].tolist()
    assert not set(keyed.random.tolist()) & set(batch.drawn(sample, 7, 1, 4).random.tolist())
