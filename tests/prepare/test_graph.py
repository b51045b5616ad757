from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from ctssl.prepare.atlas import Atlas
from ctssl.prepare.graph import grid_neighbours, pairs_within, scan_edges, scan_size

PITCH, RHO = 26.0, 31.2
DISTANCE = {"edges": "distance", "rho_mm": RHO}
OVERLAP = {"edges": "overlap", "min_overlap": 0.13}


def block(*counts: int) -> np.ndarray:
    return np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), -1).reshape(-1, 3) * PITCH


def atlas(points: np.ndarray) -> Atlas:
    return Atlas("a", "LPS", 1.0, PITCH, points, brute_force(points, RHO), 32)


def brute_force(points: np.ndarray, distance: float) -> np.ndarray:
    return np.argwhere(np.triu(cdist(points, points) < distance, k=1))


def by_overlap(points: np.ndarray, edge: float, share: float) -> np.ndarray:
    """Cubes around points, their common part by the corners."""
    low = np.maximum(points[:, None], points[None]) - edge / 2
    high = np.minimum(points[:, None], points[None]) + edge / 2
    common = np.clip(high - low, 0, None).prod(2) / edge**3
    return np.argwhere(np.triu(common > share, k=1))


def everyone(points: np.ndarray) -> np.ndarray:
    return np.ones(len(points), bool)


@pytest.mark.parametrize("rule", [DISTANCE, OVERLAP, {"edges": "topology"}], ids=lambda r: r["edges"])
@pytest.mark.parametrize("scale", [0.8, 1.0, 1.08, 1.3])
def test_trap_6_the_normalised_rules_keep_the_edges_of_the_atlas(rule, scale):
    chest = atlas(block(4, 5, 3))
    assert len(chest.neighbours) == 3 * 5 * 3 + 4 * 4 * 3 + 4 * 5 * 2
    points = scale * chest.landmarks_mm + 7
    got = scan_edges(points, everyone(points), chest, **rule, scale_normalised=True)
    np.testing.assert_array_equal(got, chest.neighbours)


def test_trap_6_the_plain_rules_lose_all_edges_of_large_lungs():
    points = block(4, 5, 3)
    chest, valid = atlas(points), everyone(points)
    np.testing.assert_array_equal(
        scan_edges(1.08 * points, valid, chest, **DISTANCE), brute_force(1.08 * points, RHO)
    )
    assert scan_edges(1.25 * points, valid, chest, **DISTANCE).shape == (0, 2)
    assert len(scan_edges(1.07 * points, valid, chest, **OVERLAP)) == len(chest.neighbours)
    assert scan_edges(1.08 * points, valid, chest, **OVERLAP).shape == (0, 2)


def test_edges_equal_brute_force_without_self_loops_and_without_invalid_landmarks():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 120, (80, 3))
    valid = rng.random(80) < 0.7
    for rule, expected in ((DISTANCE, brute_force(points, RHO)), (OVERLAP, by_overlap(points, 32, 0.13))):
        edges = scan_edges(points, valid, atlas(points), **rule)
        np.testing.assert_array_equal(edges, expected[valid[expected].all(1)])
        assert (edges[:, 0] < edges[:, 1]).all()
        assert edges.dtype == np.int64
        assert len(edges) > 20


def test_overlap_takes_the_size_of_patches_from_the_atlas():
    points = np.random.default_rng(1).uniform(0, 200, (60, 3))
    large = replace(atlas(points), spacing_mm=2.0, patch_voxels=24)
    got = scan_edges(points, everyone(points), large, edges="overlap", min_overlap=0.3)
    np.testing.assert_array_equal(got, by_overlap(points, 48, 0.3))


def test_topology_keeps_neighbours_of_which_both_are_valid_wherever_they_lie():
    chest = atlas(block(3, 3, 3))
    valid = np.random.default_rng(2).random(27) < 0.6
    nowhere = np.zeros((27, 3))
    expected = [pair for pair in chest.neighbours.tolist() if valid[pair[0]] and valid[pair[1]]]
    np.testing.assert_array_equal(scan_edges(nowhere, valid, chest, edges="topology"), expected)


def test_the_scale_is_measured_on_valid_landmarks_only():
    points = block(4, 4, 4)
    chest, valid = atlas(points), points[:, 2] < 3 * PITCH
    mapped = 1.1 * points
    mapped[~valid] *= 40  # nonsense below the field of view
    assert scan_size(mapped, valid, chest) == pytest.approx(1.1)
    got = scan_edges(mapped, valid, chest, **DISTANCE, scale_normalised=True)
    np.testing.assert_array_equal(got, chest.neighbours[valid[chest.neighbours].all(1)])


def test_closer_means_strictly_closer():
    points = np.array([[0.0, 0, 0], [RHO, 0, 0], [0, RHO - 1e-6, 0]])
    np.testing.assert_array_equal(pairs_within(points, RHO), [[0, 2]])


def test_neighbours_on_a_grid_are_one_step_apart_and_no_diagonals():
    np.testing.assert_array_equal(
        grid_neighbours(block(3, 2, 4), PITCH), brute_force(block(3, 2, 4), PITCH + 0.1)
    )


@pytest.mark.parametrize("rule", [DISTANCE, OVERLAP, {"edges": "topology"}], ids=lambda r: r["edges"])
@pytest.mark.parametrize("valid", [0, 1])
def test_too_few_valid_landmarks_give_an_empty_graph(rule, valid):
    chest = atlas(block(2, 2, 1))
    mask = np.arange(4) < valid
    assert scan_edges(chest.landmarks_mm, mask, chest, **rule, scale_normalised=True).shape == (0, 2)


@pytest.mark.parametrize("edges", ["distance", "overlap"])
def test_a_rule_without_its_number_is_an_error(edges):
    chest = atlas(block(2, 2, 2))
    with pytest.raises(ValueError, match=f"edges by {edges}"):
        scan_edges(chest.landmarks_mm, everyone(chest.landmarks_mm), chest, edges=edges)
