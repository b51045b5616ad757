"""Distances are Mahalanobis's where a covariance can be inverted, and sane where it cannot."""

import numpy as np
import pytest

from ctssl.evaluate.cloud import RANK, Cloud


def test_with_many_scans_the_distance_is_mahalanobis():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5)) + 7
    new = rng.normal(size=(9, 5)) * 5
    away = new - x.mean(0)
    expected = np.sqrt((away @ np.linalg.inv(np.cov(x.T)) * away).sum(1) / 5)
    np.testing.assert_allclose(Cloud.of(x).distances(new), expected, rtol=1e-6)


@pytest.mark.parametrize(("scans", "width"), [(30, 200), (200, 60), (12, 12)])
def test_the_distribution_is_that_of_probabilistic_pca(scans, width):
    """Its covariance in full, inverted by numpy."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(scans, width)) * rng.uniform(0.1, 10, width)
    cloud = Cloud.of(x)
    rank = len(cloud.variances)
    assert rank == min(RANK, scans - 2 if scans <= width else width)
    round_rest = np.eye(width) - cloud.axes.T @ cloud.axes
    covariance = (cloud.axes.T * cloud.variances) @ cloud.axes + cloud.rest * round_rest
    z = (x - x.mean(0)) / x.std(0)
    assert np.trace(covariance) == pytest.approx(np.trace(np.cov(z.T)))
    new = rng.normal(size=(4, width)) * 10
    away = (new - x.mean(0)) / x.std(0)
    expected = np.sqrt((away @ np.linalg.inv(covariance) * away).sum(1) / width)
    np.testing.assert_allclose(cloud.distances(new), expected, rtol=1e-6)


@pytest.mark.parametrize("scans", [1, 2, 3, 20])
@pytest.mark.parametrize("width", [1, 2, 30])
def test_few_scans_and_features_that_never_change_have_distances(scans, width):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(scans, width))
    x[:, 0] = 4.0
    found = Cloud.of(x).distances(np.concatenate([x, x + 100]))
    assert np.isfinite(found).all()
    assert (found[scans:] > 10 * found[:scans].max()).all()


def test_a_feature_that_never_changed_and_now_does_is_far():
    x = np.random.default_rng(3).normal(size=(50, 4))
    x[:, 2] = 0
    new = x[:1] + np.array([0, 0, 0.01, 0])
    assert Cloud.of(x).distances(new) > 100 * Cloud.of(x).distances(x).max()


def test_all_scans_alike_are_no_error():
    x = np.full((5, 3), 2.5)
    assert Cloud.of(x).distances(x).tolist() == [0] * 5
