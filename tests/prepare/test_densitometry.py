"""Densities of volumes whose shares are known, against scipy and against the normal distribution."""

import numpy as np
import pytest
from scipy import stats

from ctssl.errors import ScanError
from ctssl.prepare import densitometry as module
from ctssl.prepare.densitometry import MEASURES, densitometry

SHARES = {-1000: 10, -950: 15, -949: 5, -910: 10, -856: 20, -855: 10, -600: 6, -250: 4, -249: 10, 0: 10}
"""HU -> of a hundred voxels, on both sides of every limit."""


def volume(repeats=27):
    """HU (z, y, x) with exactly these shares, in random order, and all lung."""
    values = np.repeat(list(SHARES), list(SHARES.values())).astype(np.int16)
    shuffled = np.random.default_rng(0).permutation(np.tile(values, repeats))
    hu = shuffled.reshape(30, 30, -1)
    return hu, np.ones(hu.shape, np.uint8)


def test_shares_are_those_that_the_volume_was_made_with_and_limits_count():
    found = densitometry(*volume(), spacing_mm=1.0)
    assert tuple(found) == MEASURES
    assert (found["laa_950_percent"], found["laa_910_percent"], found["laa_856_percent"]) == (25, 40, 60)
    assert found["haa_percent"] == 10


def test_volume_and_mass_follow_from_voxels_and_densities():
    hu, mask = volume()
    found = densitometry(hu, mask, spacing_mm=2.0)
    assert found["volume_l"] == pytest.approx(2700 * 0.008 / 1000, abs=5e-5)
    grams = sum(count * 27 * (value + 1000) / 1000 * 0.008 for value, count in SHARES.items())
    assert found["mass_g"] == pytest.approx(grams, abs=5e-5)
    water = densitometry(np.zeros((10, 10, 10), np.int16), np.ones((10, 10, 10)), 10.0)
    assert (water["volume_l"], water["mass_g"]) == (1, 1000)
    assert densitometry(np.full((5, 5, 5), -1024, np.int16), np.ones((5, 5, 5)), 10.0)["mass_g"] == 0


@pytest.mark.parametrize("part", [1 << 20, 1000])
def test_moments_and_percentiles_equal_scipy(monkeypatch, part):
    monkeypatch.setattr(module, "_PART", part)
    hu = np.random.default_rng(1).gamma(2, 90, (24, 25, 26)).astype(np.int16) - 980
    mask = np.random.default_rng(2).integers(0, 3, hu.shape)
    lung, found = hu[mask > 0].astype(float), densitometry(hu, mask, 1.0)
    assert found["mean_hu"] == pytest.approx(lung.mean(), abs=1e-4)
    assert found["skewness"] == pytest.approx(stats.skew(lung), abs=1e-4)
    assert found["kurtosis"] == pytest.approx(stats.kurtosis(lung), abs=1e-4)
    assert found["perc10_hu"] == pytest.approx(stats.scoreatpercentile(lung, 10), abs=1e-4)
    assert found["perc15_hu"] == pytest.approx(stats.scoreatpercentile(lung, 15), abs=1e-4)


def test_normal_lung_has_the_numbers_of_the_normal_distribution():
    hu, mask = np.random.default_rng(0).normal(-870, 40, (60, 60, 60)), np.ones((60, 60, 60))
    found = densitometry(hu, mask, 1.0)
    assert found["laa_950_percent"] == pytest.approx(100 * stats.norm.cdf(-2), abs=0.15)
    assert found["perc15_hu"] == pytest.approx(stats.norm.ppf(0.15, -870, 40), abs=0.5)
    assert (found["skewness"], found["kurtosis"]) == pytest.approx((0, 0), abs=0.03)


def test_what_is_no_lung_does_not_count():
    hu, mask = volume()
    around = np.pad(hu, 4, constant_values=-999)
    assert densitometry(around, np.pad(mask, 4), 1.0) == densitometry(hu, mask, 1.0)


def test_clipping_at_the_window_of_volumes_changes_no_share():
    hu, mask = np.random.default_rng(1).normal(-900, 90, (20, 20, 20)), np.ones((20, 20, 20), bool)
    before, after = densitometry(hu, mask, 1.0), densitometry(hu.clip(-1024, 3071), mask, 1.0)
    for name in ("laa_950_percent", "laa_910_percent", "haa_percent", "perc15_hu", "mass_g"):
        assert before[name] == after[name]


def test_lung_of_one_density_has_no_shape():
    found = densitometry(np.full((4, 4, 4), -850, np.int16), np.ones((4, 4, 4)), 1.0)
    assert (found["mean_hu"], found["skewness"], found["kurtosis"], found["perc10_hu"]) == (-850, 0, 0, -850)


def test_no_lung_and_other_shapes_are_errors():
    with pytest.raises(ScanError, match="no voxel"):
        densitometry(np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), 1.0)
    with pytest.raises(ValueError, match=r"\(2, 2, 2\), \(2, 2, 3\)"):
        densitometry(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)), 1.0)
