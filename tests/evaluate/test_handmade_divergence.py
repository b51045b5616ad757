"""The estimator of divergence against analytic values, scipy's trees and plain loops."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from ctssl.evaluate.handmade.divergence import Anchors, divergence, neighbour_distances, one_way


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


def test_anchors_measure_what_pairs_do():
    rng = np.random.default_rng(3)
    sets = [rng.normal(m, 1, (30 + m, 5)) for m in range(4)]
    found = Anchors(sets[:3], 4).divergences(sets[3])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [between(sets[3], one, 4) for one in sets[:3]], rtol=1e-6)
    assert found[0] > found[1] > found[2] > 0
