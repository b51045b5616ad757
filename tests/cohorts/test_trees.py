"""Airways, arteries and veins of the canonical lungs, and the painting of tubes."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from ctssl.cohorts.phantom import lungs
from ctssl.cohorts.phantom.chest import grow
from ctssl.cohorts.phantom.trees import grow_trees, wall_mm
from ctssl.cohorts.phantom.tubes import draw_tubes
from ctssl.prepare.grid import Grid

KINDS = ("airway", "artery", "vein")


@pytest.fixture(scope="module")
def grown():
    return grow()


def lung_points(step_mm: float) -> np.ndarray:
    axes = [np.arange(low, high, step_mm) for low, high in zip(lungs.LOW_MM, lungs.HIGH_MM, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return points[lungs.lung_margin(*points.T) > 0]


@pytest.mark.parametrize("kind", KINDS)
def test_branches_hang_together_and_taper(grown, kind):
    tree = grown[kind]
    child = np.flatnonzero(tree.parents >= 0)
    parent = tree.parents[child]
    assert (parent < child).all()
    assert np.abs(tree.starts_mm[child] - tree.ends_mm[parent]).max() < 1e-6
    assert (tree.radii_mm[child] <= tree.radii_mm[parent] + 1e-9).all()
    assert (np.linalg.norm(tree.ends_mm - tree.starts_mm, axis=1) > 0.1).all()
    assert (tree.parents < 0).sum() <= 4  # one trachea, two arteries, four veins


@pytest.mark.parametrize("kind", ["artery", "vein"])
def test_vessels_reach_2_mm_and_divide_often(grown, kind):
    tree = grown[kind]
    assert tree.radii_mm.max() > 5
    assert 0.5 < tree.radii_mm.min() <= 1.0
    assert len(tree.branch_points_mm) > 500
    assert (tree.radii_mm[tree.branching] > 1.2).sum() > 100


@pytest.mark.parametrize("kind", KINDS)
def test_branches_stay_in_the_lungs_but_for_the_hila(grown, kind):
    ends = grown[kind].ends_mm
    distance, _ = cKDTree(lung_points(3.0)).query(ends)
    assert (distance < 6).mean() >= 0.97
    far = ends[distance >= 6]
    assert (np.abs(far[:, 0]) < 60).all()  # all of those lie on the way from the middle to the hila


def test_no_region_is_without_vessels(grown):
    pieces = np.concatenate([grown[kind].ends_mm for kind in ("artery", "vein")])
    distance, _ = cKDTree(pieces).query(lung_points(6.0))
    assert np.percentile(distance, 99) < 15
    assert distance.max() < 25


def test_arteries_run_beside_their_airways(grown):
    airway, artery = grown["airway"], grown["artery"]
    wide = airway.radii_mm > 1.2
    middles = (airway.starts_mm + airway.ends_mm)[wide] / 2
    distance, at = cKDTree((artery.starts_mm + artery.ends_mm) / 2).query(middles)
    reach = airway.radii_mm[wide] + wall_mm(airway.radii_mm[wide]) + artery.radii_mm[at]
    inside = lungs.lung_margin(*middles.T) > 10
    assert np.median((distance - reach)[inside]) < 4


def test_growth_is_the_same_for_the_same_arguments_and_not_for_another_seed(grown):
    points = lung_points(4.0)
    lobe = lungs.lobes(*points.T)
    first, again, other = (grow_trees(points, lobe, seed) for seed in (0, 0, 1))
    for kind in KINDS:
        np.testing.assert_array_equal(first[kind].ends_mm, again[kind].ends_mm)
    assert (
        len(other["vein"].ends_mm) != len(first["vein"].ends_mm)
        or (other["vein"].ends_mm != first["vein"].ends_mm).any()
    )


def test_points_that_cannot_be_filled_are_refused():
    points = lung_points(4.0)
    with pytest.raises(ValueError, match=r"lobes 1 to 5 needs points, but \[2\]"):
        grow_trees(points, np.where(lungs.lobes(*points.T) == 2, 1, lungs.lobes(*points.T)))
    coarse = lung_points(12.0)
    with pytest.raises(ValueError, match="use a finer grid"):
        grow_trees(coarse, lungs.lobes(*coarse.T))


GRID = Grid((-30.0, -30.0, -40.0), 2.0, (31, 31, 41), "LPS")


@pytest.mark.parametrize(("radius_mm", "tolerance"), [(0.4, 0.1), (0.8, 0.1), (1.5, 0.1), (6.0, 0.03)])
def test_a_tube_has_the_mass_of_its_cylinder(radius_mm, tolerance):
    values = np.zeros(GRID.shape, np.float32)
    start, end = np.array([[-3.3, 1.7, -32.0]]), np.array([[5.1, 4.4, 31.0]])
    draw_tubes(values, GRID, start, end, np.array([radius_mm]), 1.0)
    length = np.linalg.norm(end - start)
    expected = np.pi * radius_mm**2 * (length + 4 / 3 * radius_mm * (radius_mm > 1))  # round ends
    assert values.sum() * 8 == pytest.approx(expected, rel=tolerance + 0.05 * (radius_mm < 1))


def test_tubes_that_overlap_count_once():
    one, two = (np.zeros(GRID.shape, np.float32) for _ in range(2))
    start, end, radius = np.array([[0.0, 0, -20]]), np.array([[0.0, 0, 20]]), np.array([4.0])
    draw_tubes(one, GRID, start, end, radius, 40.0)
    draw_tubes(two, GRID, np.repeat(start, 3, 0), np.repeat(end, 3, 0), np.repeat(radius, 3), 40.0)
    np.testing.assert_allclose(one, two, atol=1e-5)
