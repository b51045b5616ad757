import numpy as np
import pytest
from scipy.spatial.distance import cdist

from ctssl.prepare.graph import pairs_within, scan_edges

PITCH, RHO = 26.0, 31.2


def block(*counts: int) -> np.ndarray:
    return np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), -1).reshape(-1, 3) * PITCH


def brute_force(points: np.ndarray, distance: float) -> np.ndarray:
    return np.argwhere(np.triu(cdist(points, points) < distance, k=1))


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.08, 1.3])
def test_trap_6_the_normalised_rule_keeps_the_edges_of_the_atlas(scale):
    atlas = block(4, 5, 3)
    neighbours = brute_force(atlas, RHO)
    assert len(neighbours) == 3 * 5 * 3 + 4 * 4 * 3 + 4 * 5 * 2
    valid = np.ones(len(atlas), bool)
    got = scan_edges(scale * atlas + 7, valid, RHO, atlas_mm=atlas, neighbours=neighbours)
    np.testing.assert_array_equal(got, neighbours)


def test_trap_6_the_plain_rule_loses_all_edges_of_large_lungs():
    atlas = block(4, 5, 3)
    valid = np.ones(len(atlas), bool)
    np.testing.assert_array_equal(scan_edges(1.08 * atlas, valid, RHO), brute_force(atlas, RHO))
    assert scan_edges(1.25 * atlas, valid, RHO).shape == (0, 2)


def test_edges_equal_brute_force_without_self_loops_and_without_invalid_landmarks():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 120, (80, 3))
    valid = rng.random(80) < 0.7
    edges = scan_edges(points, valid, RHO)
    expected = brute_force(points, RHO)
    np.testing.assert_array_equal(edges, expected[valid[expected].all(1)])
    assert (edges[:, 0] < edges[:, 1]).all()
    assert edges.dtype == np.int64


def test_the_scale_is_measured_on_valid_landmarks_only():
    atlas = block(4, 4, 4)
    neighbours = brute_force(atlas, RHO)
    mapped, valid = atlas.copy(), atlas[:, 2] < 3 * PITCH
    mapped[~valid] *= 40  # nonsense below the field of view
    got = scan_edges(mapped, valid, RHO, atlas_mm=atlas, neighbours=neighbours)
    np.testing.assert_array_equal(got, neighbours[valid[neighbours].all(1)])


def test_closer_means_strictly_closer():
    points = np.array([[0.0, 0, 0], [RHO, 0, 0], [0, RHO - 1e-6, 0]])
    np.testing.assert_array_equal(pairs_within(points, RHO), [[0, 2]])


@pytest.mark.parametrize("valid", [0, 1])
def test_too_few_valid_landmarks_give_an_empty_graph(valid):
    atlas = block(2, 2, 1)
    mask = np.arange(4) < valid
    assert scan_edges(atlas, mask, RHO, atlas_mm=atlas, neighbours=brute_force(atlas, RHO)).shape == (0, 2)
