"""The estimator of divergence against analytic values, scipy's trees and plain loops."""

import json

import numpy as np
import pytest
from scipy.spatial import cKDTree

from ctssl.evaluate.handmade import pairs
from ctssl.evaluate.handmade.divergence import divergence, neighbour_distances, one_way
from ctssl.evaluate.handmade.pairs import Pairs


def between(p, q, k=5):
    return divergence(p, q, neighbour_distances(p, k), neighbour_distances(q, k), k)


def kl(mean_p, sd_p, mean_q, sd_q):
    """KL(P || Q) of normal distributions with independent components."""
    ratio = (sd_p / sd_q) ** 2
    return 0.5 * (ratio + ((mean_q - mean_p) / sd_q) ** 2 - 1 - np.log(ratio)).sum()


@pytest.mark.parametrize(
    ("mean", "sd"), [((0.0, 0.0), (1.0, 1.0)), ((1.0, 0.5), (1.0, 1.0)), ((0.0, 0.3), (1.4, 0.8))]
)
def test_divergence_of_gaussians_is_the_analytic_one(mean, sd):
    mean, sd, one = np.array(mean), np.array(sd), np.ones(2)
    expected = (kl(0 * one, one, mean, sd) + kl(mean, sd, 0 * one, one)) / 2
    found = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        p, q = rng.normal(size=(1500, 2)), mean + sd * rng.normal(size=(1200, 2))
        found.append(between(p, q))
    assert np.mean(found) == pytest.approx(expected, abs=0.08, rel=0.1)


def test_both_ways_are_by_hand_those_of_the_formula():
    rng = np.random.default_rng(0)
    p, q, k = rng.normal(size=(40, 3)), rng.normal(0.5, 2, (30, 3)), 4
    rho, nu = cKDTree(p).query(p, k + 1)[0][:, k], cKDTree(q).query(p, k)[0][:, k - 1]
    np.testing.assert_allclose(neighbour_distances(p, k), rho, rtol=1e-7)
    forward = 3 / 40 * np.log(nu / rho).sum() + np.log(30 / 39)
    assert one_way(nu, rho, 30, 3) == pytest.approx(forward)
    rho, nu = cKDTree(q).query(q, k + 1)[0][:, k], cKDTree(p).query(q, k)[0][:, k - 1]
    back = 3 / 30 * np.log(nu / rho).sum() + np.log(40 / 29)
    assert between(p, q, k) == pytest.approx((forward + back) / 2)


def test_identical_scans_have_divergence_0_and_order_does_not_matter():
    rng = np.random.default_rng(1)
    p, q = rng.normal(size=(50, 20)), rng.normal(1, 1, (45, 20))
    assert between(p, p) == between(p, rng.permutation(p)) == 0
    assert between(p, q) == pytest.approx(between(q, p), rel=1e-9)
    assert between(p, q) == pytest.approx(between(rng.permutation(p), q), rel=1e-9)
    assert between(p, q) > 1


def test_no_divergence_is_below_0_and_patches_of_pure_air_make_none_infinite():
    rng = np.random.default_rng(2)
    alike = [between(rng.normal(size=(60, 2)), rng.normal(size=(60, 2))) for _ in range(20)]
    assert min(alike) == 0
    air = np.ones((20, 4))
    assert between(air, air) == pytest.approx(np.log(20 / 19))
    assert np.isfinite(between(air, rng.normal(size=(30, 4))))


@pytest.fixture
def measured(monkeypatch):
    """The sizes of all pairs of sets that are measured."""
    seen = []

    def spy(first, second, *how):
        seen.append({len(first), len(second)})
        return divergence(first, second, *how)

    monkeypatch.setattr(pairs, "divergence", spy)
    return seen


def some_sets(count=4):
    """Sets of different sizes, the first of 30."""
    rng = np.random.default_rng(3)
    return {f"s{m}": rng.normal(m, 1, (30 + m, 5)) for m in range(count)}


def rows(sets, anchors, folder, how="how"):
    known = Pairs(sets, 4, folder, how)
    return np.stack([known.divergences(scan, anchors) for scan in sets])


def test_divergences_of_scans_are_those_of_pairs(tmp_path):
    sets = some_sets()
    found = rows(sets, ["s2", "s0"], tmp_path)
    assert found.dtype == np.float32
    for row, points in zip(found, sets.values(), strict=True):
        np.testing.assert_allclose(row, [between(points, sets[a], 4) for a in ("s2", "s0")], rtol=1e-6)
    np.testing.assert_array_equal(rows(sets, ["s0", "s2"], tmp_path), found[:, ::-1])


def test_a_pair_is_measured_once_and_a_new_scan_costs_its_own_pairs(tmp_path, measured):
    sets, more = some_sets(4), some_sets(5)
    names = list(sets)
    first = rows(sets, names, tmp_path)
    assert len(measured) == 4 * 5 / 2
    np.testing.assert_array_equal(first, first.T)
    measured.clear()
    np.testing.assert_array_equal(rows(sets, names, tmp_path), first)
    assert measured == []
    np.testing.assert_array_equal(rows(more, names, tmp_path)[:4], first)
    assert measured == [{34, 30}, {34, 31}, {34, 32}, {34, 33}]
    measured.clear()
    rows(more, names, tmp_path)
    assert measured == []
    rows(more, [*names[:3], "s4"], tmp_path)  # takes the place of an anchor
    assert measured == [{34}], "the others are kept under s4"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"s{m}-how.json" for m in range(5)]


def test_rounding_is_the_same_whichever_scan_comes_first(tmp_path):
    """Of so many numbers, every tenth pair differs in its last digit the other way round."""
    rng = np.random.default_rng(0)
    sets = {f"s{m}": rng.normal(size=(130 + m, 51)) for m in range(12)}
    folders = tmp_path / "a", tmp_path / "b"
    rows(sets, list(sets), folders[0])
    rows(dict(reversed(sets.items())), list(sets), folders[1])
    for name in sets:
        one, other = (json.loads((folder / f"{name}-how.json").read_text()) for folder in folders)
        assert one == other


@pytest.mark.parametrize("text", ["{", '{"s0": NaN}', '{"s0": "far"}', "[]"])
def test_a_damaged_file_is_said_and_made_again(tmp_path, capsys, text):
    sets = some_sets(2)
    first = rows(sets, ["s0"], tmp_path)
    (tmp_path / "s1-how.json").write_text(text)
    np.testing.assert_array_equal(rows(sets, ["s0"], tmp_path), first)
    assert "made again" in capsys.readouterr().err
