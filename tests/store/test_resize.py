import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch.nn import functional

from ctssl.store.resize import cover, resized


@pytest.fixture
def hu():
    return np.random.default_rng(5).integers(-1024, 500, (12, 20, 30)).astype(np.int16)


def test_whole_factors_are_means_of_blocks(hu):
    expected = functional.avg_pool3d(torch.from_numpy(hu).float()[None], (2, 4, 3))[0].numpy()
    assert np.abs(resized(hu, (6, 5, 10)) - expected).max() <= 0.501


def test_more_voxels_are_linear_between_old_ones(hu):
    extent = (24, 33, 31)
    lines = [(np.arange(n) + 0.5) * o / n - 0.5 for n, o in zip(extent, hu.shape, strict=True)]
    points = np.meshgrid(*lines, indexing="ij")
    expected = map_coordinates(hu.astype(float), points, order=1, mode="nearest")
    assert np.abs(resized(hu, extent) - expected).max() <= 0.51


def test_the_same_voxels_stay(hu):
    assert (resized(hu, hu.shape) == hu).all()
    assert (resized(hu, (4, 20, 30), (4, 20, 30)) == hu[4:8]).all()


def test_beyond_is_air(hu):
    found = resized(hu, (16, 40, 30), (16, 40, 30))
    assert (found[2:14, 10:30] == hu).all()
    assert (found[:2] == -1024).all()
    assert (found[:, 30:] == -1024).all()


def test_a_new_voxel_whose_middle_lies_beyond_is_air_though_it_touches_an_old_one():
    """Nine old voxels on three: middles at -1, 2 and 5 of four old ones."""
    by_hand = [[0, 0, 0, 0], [1 / 6, 1 / 3, 1 / 3, 1 / 6], [0, 0, 0, 0]]
    np.testing.assert_allclose(cover(4, 3, 9), by_hand, rtol=1e-6)


def test_fields_of_broken_voxels_keep_the_mean():
    weights = cover(31, 7, 31)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(weights.sum(0), 7 / 31, rtol=1e-5)  # every old voxel counts as much
    assert (cover(1, 5, 1) == 1).all()


def test_a_field_that_is_smaller_is_a_part(hu):
    np.testing.assert_allclose(
        cover(30, 5, 10), np.eye(5).repeat(2, 1).reshape(5, 10) @ np.eye(30)[10:20] / 2
    )
