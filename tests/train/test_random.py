import math
import random as plain

import numpy as np
import pytest
import torch
from scipy.stats import chi2, kstest

from ctssl.train.random import ALL_LANDMARKS, normal, of_view, sample_keys, uniform

WORD = 2**64


def mixed(z):
    """The finaliser of splitmix64 on Python's integers."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def state(key, steps):
    return mixed((key + steps * 0x9E3779B97F4A7C15) % WORD)


def key_of(*parts):
    key = 0
    for part in parts:
        key = state(key, part + 1)
    return key


def expected(key, stream, n):
    """Uniforms of a key: upper halves of all hashes, then lower halves."""
    base = state(key ^ 0x243F6A8885A308D3, stream + 1)
    hashes = [state(base, i + 1) for i in range(-(-n // 2))]
    numbers = [h >> 40 for h in hashes] + [h >> 16 & 0xFFFFFF for h in hashes]
    return [number / 2**24 for number in numbers][:n]


def keys(scans, landmarks=3, *, seed=0, phase=0, epoch=0):
    scans = torch.as_tensor(scans)
    return sample_keys(seed, phase, epoch, scans, torch.as_tensor(landmarks).expand_as(scans))


def test_mixer_is_splitmix64():
    """Its published first outputs from seed 1234567 (Rosetta Code, 'Pseudo-random numbers/Splitmix64')."""
    assert [state(1234567, i) for i in range(1, 4)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@pytest.mark.parametrize("seed", [0, 42, -3, 2**63 + 5, 2**70])
def test_keys_are_those_of_plain_integers(seed):
    rng = plain.Random(1)
    scans = [rng.randrange(20_000) for _ in range(50)]
    landmarks = [ALL_LANDMARKS, *(rng.randrange(600) for _ in range(49))]
    got = sample_keys(seed, 1, 7, torch.tensor(scans), torch.tensor(landmarks))
    want = [key_of(seed, 1, 7, s, j) for s, j in zip(scans, landmarks, strict=True)]
    assert [k % WORD for k in got.tolist()] == want
    views = of_view(got, 1).tolist()
    assert [k % WORD for k in views] == [state(k ^ 0x13198A2E03707344, 2) for k in want]


@pytest.mark.parametrize("n", [0, 1, 2, 7, 100])
def test_uniforms_are_those_of_plain_integers(n):
    some = keys([0, 5, 9180])
    got = uniform(some, 4, n)
    assert got.dtype == torch.float32
    assert got.shape == (3, n)
    assert got.tolist() == [expected(k % WORD, 4, n) for k in some.tolist()]


def test_normals_are_box_muller_of_the_uniforms():
    some = keys([0, 5])
    pairs = np.array([expected(k % WORD, 2, 1000) for k in some.tolist()])
    radius, angle = np.sqrt(-2 * np.log(1 - pairs[:, :500])), 2 * math.pi * pairs[:, 500:]
    want = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], 1)
    np.testing.assert_allclose(normal(some, 2, 1000).numpy(), want, atol=2e-5)
    assert torch.equal(normal(some, 2, 999), normal(some, 2, 1000)[:, :999])


def test_nobody_depends_on_the_batch():
    all_keys = keys(torch.arange(60))
    fields = normal(all_keys, 2, 32**3)
    order = torch.randperm(60)
    for rows in (order, order[:7], torch.tensor([3])):
        assert torch.equal(normal(all_keys[rows], 2, 32**3), fields[rows])
    torch.set_num_threads(2)
    assert torch.equal(normal(all_keys, 2, 32**3), fields)
    assert uniform(all_keys[:0], 0, 5).shape == (0, 5)


def test_numbers_are_uniform():
    numbers = uniform(keys(torch.arange(1000)), 0, 1000).numpy()
    assert 0 <= numbers.min() < 1e-5
    assert 1 - 1e-5 < numbers.max() < 1
    counts = np.bincount((numbers.ravel() * 256).astype(int), minlength=256)
    assert ((counts - 1e6 / 256) ** 2 / (1e6 / 256)).sum() < chi2.ppf(0.999, 255)
    rows = [kstest(row, "uniform").pvalue for row in numbers]  # p-values are uniform too
    columns = [kstest(column, "uniform").pvalue for column in numbers.T]
    assert min(kstest(rows, "uniform").pvalue, kstest(columns, "uniform").pvalue) > 1e-3


def test_normals_are_normal():
    numbers = normal(keys(torch.arange(100)), 1, 10_000).numpy().astype(float)
    assert kstest(numbers.ravel(), "norm").pvalue > 1e-3
    assert 4.5 < abs(numbers).max() < 5.8
    halves = numbers.reshape(100, 2, 5000)  # of the same pairs
    assert abs(np.corrcoef(halves[:, 0].ravel(), halves[:, 1].ravel())[0, 1]) < 5 / 5e5**0.5
    assert abs(np.corrcoef(halves[:, 0].ravel() ** 2, halves[:, 1].ravel() ** 2)[0, 1]) < 5 / 5e5**0.5


def test_neighbours_of_every_kind_are_independent():
    """Scans, landmarks, epochs, phases, seeds, views, streams, counters; 5 sigma."""
    n = 200_000
    line = torch.arange(n)
    base = keys(line)
    first = uniform(base, 0, 2)
    others = {
        "next scan": uniform(keys(line + 1), 0, 1),
        "next landmark": uniform(keys(line, 4), 0, 1),
        "scan and landmark exchanged": uniform(sample_keys(0, 0, 0, torch.full_like(line, 3), line), 0, 1),
        "next epoch": uniform(keys(line, epoch=1), 0, 1),
        "next phase": uniform(keys(line, phase=1), 0, 1),
        "next seed": uniform(keys(line, seed=1), 0, 1),
        "a view": uniform(of_view(base, 0), 0, 1),
        "the other view": uniform(of_view(base, 1), 0, 1),
        "next stream": uniform(base, 1, 1),
        "lower half of the hash": first[:, 1:],
        "next hash": uniform(base, 0, 4)[:, 1:],
    }
    for name, other in others.items():
        assert abs(np.corrcoef(first[:, 0], other[:, 0])[0, 1]) < 5 / n**0.5, name
        assert (first[:, 0] == other[:, 0]).float().mean() < 1e-5, name
    serial = uniform(keys([1, 2, 3]), 0, n)
    for row in serial:
        assert abs(np.corrcoef(row[:-1], row[1:])[0, 1]) < 5 / n**0.5


@pytest.mark.parametrize("count", [300, pytest.param(9180, marks=pytest.mark.slow)])
def test_keys_of_a_cohort_differ(count):
    """581 landmarks, two views; equal keys would be equal augmentations."""
    scans, landmarks = torch.arange(count).repeat_interleave(581), torch.arange(581).repeat(count)
    some = sample_keys(0, 0, 0, scans, landmarks)
    both = torch.cat([of_view(some, 0), of_view(some, 1)])
    assert len(np.unique(both.numpy())) == len(both)


def test_one_bit_of_the_key_changes_half_of_the_bits():
    some = keys(torch.arange(2000))
    base = (uniform(some, 0, 1) * 2**24).long()
    for bit in range(0, 64, 7):
        flipped = (uniform(some ^ (1 << bit if bit < 63 else -(2**63)), 0, 1) * 2**24).long() ^ base
        share = sum(bin(v).count("1") for v in flipped[:, 0].tolist()) / (24 * 2000)
        assert share == pytest.approx(0.5, abs=0.012), bit
