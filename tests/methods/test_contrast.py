import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from ctssl.config.methods import OPTIONS
from ctssl.errors import ConfigError
from ctssl.methods import METHODS, load_method
from ctssl.methods.contrast import NOBODY, KeyQueue, Keys, follow, info_nce, spread


def directions(*shape):
    return functional.normalize(torch.randn(shape), dim=-1)


def in_numpy(query, key, subjects, negatives, owners, temperature):
    """The paper's Eq. 5, sample by sample, without negatives of the own subject."""
    losses, hits = [], []
    for q, k, s in zip(query, key, subjects, strict=True):
        others = [n for n, owner in zip(negatives, owners, strict=True) if owner != s]
        scores = np.exp(np.array([q @ k, *(q @ n for n in others)]) / temperature)
        losses.append(-np.log(scores[0] / scores.sum()))
        hits.append(scores[0] > scores[1:].max())
    return np.mean(losses), np.mean(hits)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_info_nce_is_the_papers_formula(temperature):
    query, negatives = directions(7, 5).double(), directions(30, 5).double()
    key = functional.normalize(query + 0.3 * torch.randn(7, 5), dim=1)
    subjects, owners = torch.arange(7), torch.arange(30) % 12
    got = info_nce(query, Keys(key, subjects), Keys(negatives, owners), temperature, random=False)
    expected, top1 = in_numpy(
        query.numpy(), key.numpy(), subjects.numpy(), negatives.numpy(), owners.numpy(), temperature
    )
    assert float(got["total"]) == pytest.approx(expected, rel=1e-5)
    assert float(got["top1"]) == pytest.approx(top1)


def test_trap_2_keys_of_the_own_subject_do_not_count():
    """A small cohort's queue holds each subject several times: its own keys are no negatives."""
    query = directions(3, 8)
    keys = Keys(query.clone(), torch.tensor([0, 1, 2]))
    queue = Keys(query[torch.tensor([0, 1, 2, 0, 1, 2])], torch.tensor([0, 1, 2, 0, 1, 2]))
    noted = info_nce(query, keys, queue, 0.2, random=True)["total"]
    unknown = info_nce(query, keys, Keys(queue.vectors, torch.full((6,), NOBODY)), 0.2, random=True)["total"]
    others = in_numpy(
        query.numpy(), query.numpy(), [0, 1, 2], queue.vectors.numpy(), queue.subjects.tolist(), 0.2
    )[0]
    assert float(noted) == pytest.approx(others, rel=1e-5)
    assert float(unknown) > float(noted) + np.log(2)  # two exact copies of the positive


def test_a_collapsed_network_has_no_hits():
    same = directions(1, 8).expand(5, 8)
    got = info_nce(same, Keys(same, torch.arange(5)), Keys(same, torch.arange(5) + 9), 0.2, random=False)
    assert float(got["top1"]) == 0
    assert float(got["total"]) == pytest.approx(np.log(6))


def test_random_start_keys_count_only_where_it_is_asked_for():
    """[C] counts them to the end in a cohort smaller than the queue."""
    query, vectors = directions(3, 8), directions(9, 8)
    keys, owners = Keys(query, torch.arange(3)), torch.tensor([NOBODY, 7, NOBODY, 8, 9, NOBODY, 10, 11, 12])
    made = owners != NOBODY
    for random, taken in ((False, made), (True, torch.ones(9, dtype=torch.bool))):
        got = info_nce(query, keys, Keys(vectors, owners), 0.2, random=random)
        numbers = query.numpy(), query.numpy(), range(3), vectors[taken].numpy(), owners[taken].tolist()
        assert float(got["total"]) == pytest.approx(in_numpy(*numbers, 0.2)[0], rel=1e-5)


def test_a_query_that_nothing_is_compared_with_has_no_loss_and_no_hit():
    query = directions(3, 8).requires_grad_()
    keys, queue = Keys(directions(3, 8), torch.arange(3)), Keys(directions(4, 8), torch.full((4,), NOBODY))
    got = info_nce(query, keys, queue, 0.2, random=False)
    assert float(got["total"].detach()) == float(got["top1"]) == 0
    got["total"].backward()
    assert query.grad.abs().max() == 0


def test_alignment_and_spread_are_their_formulas():
    query, key = directions(6, 5), directions(6, 5)
    got = info_nce(
        query, Keys(key, torch.arange(6)), Keys(directions(4, 5), torch.arange(4) + 9), 1, random=False
    )
    q, k = query.numpy().astype(float), key.numpy().astype(float)
    assert float(got["alignment"]) == pytest.approx(((q - k) ** 2).sum(1).mean(), rel=1e-5)
    apart = spread(key)
    pairs = [np.exp(-2 * ((a - b) ** 2).sum()) for i, a in enumerate(k) for b in k[:i]]
    assert float(apart["uniformity"]) == pytest.approx(np.log(np.mean(pairs)), rel=1e-5)
    assert float(apart["embedding_std"]) == pytest.approx(k.std(0).mean() * 5**0.5, rel=1e-5)
    collapsed = spread(key[:1].expand(6, 5))
    assert [float(v) for v in collapsed.values()] == pytest.approx([0, 0], abs=1e-5)
    many = spread(directions(2000, 64))
    assert float(many["embedding_std"]) == pytest.approx(1, abs=0.02)


def test_the_age_of_keys_counts_steps_since_they_were_made():
    queue = KeyQueue(2, 3, 2)
    assert float(queue.age(0)) == 0
    for ring in (0, 1, 1, 0, 1):
        queue.enqueue(ring, Keys(directions(1, 2), torch.tensor([4])))
    assert float(queue.age(0)) == pytest.approx(np.mean([5, 2]))
    assert float(queue.age(1)) == pytest.approx(np.mean([4, 3, 1]))


def test_a_new_queue_holds_directions_of_nobody():
    queue = KeyQueue(2, 50, 8)
    assert queue.vectors.norm(dim=2).sub(1).abs().max() < 1e-6
    assert set(queue.subjects.flatten().tolist()) == {NOBODY}
    assert not torch.equal(queue.vectors[0], queue.vectors[1])


def test_a_queue_wraps_round_and_replaces_the_oldest():
    queue = KeyQueue(3, 5, 2)
    before = queue.vectors.clone()
    for start in (0, 3, 6):
        numbers = torch.arange(start, start + 3)
        queue.enqueue(1, Keys(torch.stack([numbers, numbers], 1).float(), numbers))
    assert queue.subjects[1].tolist() == [5, 6, 7, 8, 4]
    assert queue.vectors[1, :, 0].tolist() == [5, 6, 7, 8, 4]
    assert queue.cursor.tolist() == [0, 4, 0]
    assert torch.equal(queue.vectors[[0, 2]], before[[0, 2]])


def test_a_batch_larger_than_the_queue_leaves_its_last_keys():
    queue = KeyQueue(1, 4, 2)
    queue.enqueue(0, Keys(torch.zeros(6, 2), torch.arange(6)))
    assert sorted(queue.keys(0).subjects.tolist()) == [2, 3, 4, 5]


def test_the_key_network_follows_parameters_only():
    query, key = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    with torch.no_grad():
        query.weight.normal_()
        query.running_mean.normal_()
    expected = 0.9 * key.weight.detach().clone() + 0.1 * query.weight.detach()
    follow(key, query, 0.9)
    torch.testing.assert_close(key.weight.detach(), expected)
    assert torch.equal(key.running_mean, torch.zeros(3))


def test_methods_are_found_by_name():
    for name in METHODS:
        method = load_method(name)
        assert callable(method.embedder)
        assert hasattr(method, "build") is not OPTIONS[name].frozen, "what is not trained is not built"
    with pytest.raises(ConfigError, match="no method 'moco-v9'"):
        load_method("moco-v9")
