import numpy as np
import pytest

from ctssl.networks.batchnorm import group_sizes
from ctssl.train.batches import Sample
from ctssl.train.parts import needed, share


@pytest.mark.parametrize("members", [2, 7, 16, 33])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(("ranks", "passes"), [(1, 1), (1, 3), (2, 1), (2, 2), (4, 1)])
def test_every_group_is_computed_once_and_whole(members, groups, ranks, passes):
    order = np.random.default_rng(members).permutation(members)
    shares = share(members, groups, order, ranks, passes)
    expected = group_sizes(members, groups)
    for held, walk in ((shares.queries, np.arange(members)), (shares.keys, order)):
        assert len(held) == ranks
        assert all(len(parts) <= passes for parts in held)
        parts = [part for of_rank in held for part in of_rank]
        assert [size for part in parts for size in part.groups] == expected
        assert np.concatenate([part.places for part in parts]).tolist() == walk.tolist()
        assert all(len(part.places) == sum(part.groups) for part in parts)
    assert shares.counts() == [sum(len(p.places) for p in parts) for parts in shares.keys]


def test_groups_are_dealt_evenly():
    shares = share(32, 8, np.arange(32), ranks=2, passes=2)
    assert [[part.groups for part in parts] for parts in shares.queries] == [[(4, 4)] * 2] * 2


def test_a_device_reads_what_its_queries_and_keys_need_once():
    scans = np.repeat([9, 4, 7, 2], [2, 1, 3, 2])
    sample = Sample(scans, np.arange(8), np.array([9, 4, 7, 2]))
    shares = share(4, 1, np.array([3, 1, 0, 2]), 1, 1)
    assert needed(sample, shares.queries[0] + shares.keys[0]).members.tolist() == [9, 4, 7, 2]
    some = needed(sample, [type(shares.queries[0][0])(np.array([3, 1, 3]), (3,))])
    assert some.members.tolist() == [4, 2]
    assert some.scans.tolist() == [4, 2, 2]
    assert some.landmarks.tolist() == [2, 6, 7]
    assert needed(sample, []).members.tolist() == []
