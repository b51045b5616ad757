"""The canonical chest: organs where a textbook has them."""

import numpy as np
import pytest
from scipy import ndimage

from ctssl.cohorts.phantom import body, lungs
from ctssl.cohorts.phantom.canvas import Canvas
from ctssl.cohorts.phantom.chest import build_chest, grow, load_chest
from ctssl.cohorts.phantom.trees import wall_mm
from ctssl.prepare.grid import Grid

STEP_MM = 3.0


@pytest.fixture(scope="module")
def chest():
    return build_chest(STEP_MM)


@pytest.fixture(scope="module")
def fine():
    """Fine enough for what is thinner than a voxel."""
    return build_chest(2.0)


def hu_at(chest, points):
    """(P,) HU at points (P, 3), x, y, z, between the voxels."""
    return ndimage.map_coordinates(chest.hu.astype(float), chest.grid.to_array(points).T, order=1)


def litres(chest, *labels):
    return np.isin(chest.lobes, labels).sum() * STEP_MM**3 / 1e6


def points_in(chest, part):
    """(P, 3) x, y, z of the voxels in a part."""
    return chest.grid.to_points(np.argwhere(part).astype(float))


def at(chest, *point):
    """HU around a point x, y, z: the median of 3 x 3 x 3 voxels."""
    z, y, x = np.rint(chest.grid.to_array(np.array(point, float))).astype(int)
    return float(np.median(chest.hu[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2]))


def test_the_lungs_hold_five_litres_in_five_lobes(chest):
    assert 4.5 < litres(chest, 1, 2, 3, 4, 5) < 5.5
    right, left = litres(chest, 1, 2, 3), litres(chest, 4, 5)
    assert right > left
    shares = [litres(chest, lobe) / (right + left) for lobe in range(1, 6)]
    # Upper, middle, lower, upper, lower in people: 19, 8, 25, 22, 26 % on average, with wide ranges.
    for share, (low, high) in zip(
        shares, [(0.13, 0.25), (0.06, 0.13), (0.16, 0.3), (0.18, 0.3), (0.17, 0.3)], strict=True
    ):
        assert low < share < high


def test_each_lobe_is_where_its_name_says(chest):
    centres = {
        lobe: chest.grid.to_points(np.argwhere(chest.lobes == lobe).astype(float)).mean(0)
        for lobe in range(1, 6)
    }
    assert all(centres[lobe][0] < -40 for lobe in (1, 2, 3))
    assert all(centres[lobe][0] > 40 for lobe in (4, 5))
    assert centres[1][2] > centres[2][2] > centres[3][2]
    assert centres[4][2] > centres[5][2]
    assert centres[3][1] > centres[2][1] + 40  # the lower lobe lies behind the middle one
    for lobe in range(1, 6):  # in one piece, but for slivers of a voxel or two
        parts, count = ndimage.label(chest.lobes == lobe)
        sizes = ndimage.sum(chest.lobes == lobe, parts, range(1, count + 1))
        assert sizes.max() > 0.99 * sizes.sum()


def test_lungs_have_notch_recesses_and_domes():
    """The left front edge gives way to the heart; lung reaches lower at the back than over the domes."""
    front = np.arange(5.0, 60.0)
    y, z = np.full_like(front, -70.0), np.full_like(front, -55.0)
    right, left = lungs.lungs(-front, y, z) > 0, lungs.lungs(front, y, z) > 0
    assert right.sum() > left.sum() + 15
    heights = np.arange(-170.0, 140.0)

    def lowest(x, y):
        inside = lungs.lungs(np.full_like(heights, x), np.full_like(heights, y), heights) > 0
        return heights[inside].min()

    for side in (-70.0, 75.0):
        assert lowest(side, 80.0) < lowest(side, -10.0) - 40
        assert lowest(side * 1.7, -10.0) < lowest(side, -10.0) - 15
    assert lowest(-70.0, -10.0) > lowest(75.0, -10.0) + 8  # the liver's dome stands higher


def test_organs_have_their_density(chest):
    assert at(chest, 30, -35, -50) == pytest.approx(body.HU["heart"], abs=15)
    assert at(chest, -70, -10, -110) == pytest.approx(body.HU["liver"], abs=10)
    assert at(chest, 0, 15, 90) == pytest.approx(-1000, abs=30)  # trachea
    assert at(chest, 23, 54, 0) == pytest.approx(body.HU["blood"], abs=15)  # aorta, left of the spine
    assert 120 < at(chest, 0, float(lungs.spine_back(np.array(12.0))), 12) < 400  # vertebra
    assert at(chest, 0, 94, 0) == pytest.approx(body.HU["cord"], abs=25)
    assert at(chest, 66, -40, -118) == pytest.approx(-1000, abs=60)  # gas in the stomach
    assert at(chest, 150, 12, -20) < 80  # wall
    assert (chest.hu > 250).mean() > 0.01  # bones
    assert chest.hu.max() < 700


def test_twelve_ribs_cross_the_side_of_the_chest(chest):
    """Up the side of the chest wall dense and soft tissue take turns."""
    z_mm = np.arange(-165.0, 120.0, 1.0)
    half, front, back = lungs.cage_wall(z_mm)
    for side in (-1, 1):
        points = np.stack([side * (half + 7.5), (front + back) / 2, z_mm], 1)
        hu = ndimage.map_coordinates(chest.hu.astype(float), chest.grid.to_array(points).T, order=1)
        bone = hu > 150
        crossings = int((np.diff(bone.astype(int)) == 1).sum())
        assert 8 <= crossings <= 12


def test_lung_is_parenchyma_vessels_airways_and_nothing_dense(chest):
    inside = chest.hu[chest.lobes > 0]
    assert np.median(inside) == pytest.approx(-870, abs=5)
    assert 0.01 < (inside > -500).mean() < 0.12
    assert (inside > 150).mean() < 0.001
    deep = chest.hu[chest.depth_mm > 40]
    assert (deep > -300).mean() > (chest.hu[(chest.depth_mm > 0) & (chest.depth_mm < 8)] > -300).mean()


def fissure_points(chest, which, side):
    """(P, 3) x, y, z on a fissure of one side, deep in the lung; heights are exact."""
    columns = points_in(chest, (chest.depth_mm == 15) | (chest.depth_mm == 25))
    x, y, _ = columns[side * columns[:, 0] > 0].T
    points = np.stack([x, y, -lungs.fissures(x, y, np.zeros_like(x))[which]], 1)
    return points[lungs.lung_margin(*points.T) > 10]


@pytest.mark.parametrize(("which", "side"), [(0, -1), (0, 1), (1, -1)])
def test_fissures_are_thin_lines_between_the_lobes(fine, which, side):
    points = fissure_points(fine, which, side)
    if which == 1:  # in front of the oblique one
        points = points[lungs.fissures(*points.T)[0] > 8]
    off = points + np.array([0, 0, 6])
    off = off[lungs.lung_margin(*off.T) > 4]
    assert len(points) > 300
    assert np.median(hu_at(fine, off)) == pytest.approx(-870, abs=3)
    assert -850 < np.median(hu_at(fine, points)) < -600
    assert np.mean(hu_at(fine, points) > -860) > 0.8  # without a gap


def test_behind_the_oblique_fissure_there_is_no_horizontal_one(fine):
    points = fissure_points(fine, 1, -1)
    points = points[lungs.fissures(*points.T)[0] < -8]
    assert len(points) > 100
    assert np.median(hu_at(fine, points)) == pytest.approx(-870, abs=3)


def test_airways_are_air_within_a_wall(fine):
    """On the axes air, in the wall something denser, beyond it lung."""
    airway = grow()["airway"]
    along = airway.ends_mm - airway.starts_mm
    middles, radii = (airway.starts_mm + airway.ends_mm) / 2, airway.radii_mm
    across = np.cross(along, [0.3, 0.5, 0.8])
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    walls = wall_mm(radii)
    deep = lungs.lung_margin(*middles.T) > 15
    wide = deep & (radii > 2)
    assert wide.sum() > 20
    assert np.median(hu_at(fine, middles[wide])) < -960

    def both_sides(reach):
        return np.stack([hu_at(fine, (middles + s * reach[:, None] * across)[wide]) for s in (-1, 1)])

    assert np.median(both_sides(radii + walls / 2)) > -780
    beyond = both_sides(radii + walls + 3).min(0)  # an artery runs on one side
    assert np.median(beyond) == pytest.approx(-870, abs=10)


def test_depth_is_the_distance_to_the_pleura(chest):
    points = chest.grid.to_points(np.argwhere((chest.depth_mm > 20) & (chest.depth_mm < 24)).astype(float))[
        ::200
    ]
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((300, 3))
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    for point in points:
        near, far = (point + radius * steps for radius in (14.0, 32.0))
        assert (lungs.lung_margin(*near.T) > 0).all()
        assert (lungs.lung_margin(*far.T) <= 0).any()


def test_right_and_left_differ(chest):
    assert np.abs(chest.hu.astype(float) - chest.hu[:, :, ::-1]).mean() > 30


def test_branch_points_are_many_thick_first_and_the_same_at_every_spacing(chest):
    points = chest.branch_points_mm
    assert len(points) > 400
    vessels = [grow()[kind] for kind in ("artery", "vein")]
    ends = np.concatenate([tree.ends_mm for tree in vessels])
    radii = np.concatenate([tree.radii_mm for tree in vessels])
    nearest = [int(np.linalg.norm(ends - p, axis=1).argmin()) for p in points[:200]]
    assert np.linalg.norm(ends[nearest] - points[:200], axis=1).max() < 1e-9
    assert (np.diff(radii[nearest]) <= 1e-9).all()
    assert radii[nearest].min() > 1.2
    np.testing.assert_array_equal(build_chest(8.0).branch_points_mm, points)


def test_the_chest_survives_the_disk(chest, tmp_path):
    chest.save(tmp_path)
    again = load_chest(tmp_path)
    assert again.grid == chest.grid
    for name in ("hu", "lobes", "depth_mm", "branch_points_mm"):
        np.testing.assert_array_equal(getattr(again, name), getattr(chest, name))


def test_a_canvas_keeps_the_volume_of_what_is_painted():
    canvas = Canvas(Grid((-30.0, -30.0, -30.0), 2.0, (31, 31, 31), "LPS"), 0.0)
    margin, hu, box = body.tube((0.0, 0.0, 0.0), (0.0, 0.0, 1e-3), 13.3, 1.0)
    canvas.blend(margin, hu, box)
    assert canvas.hu.sum() * 8 == pytest.approx(4 / 3 * np.pi * 13.3**3, rel=0.01)
    boxed = canvas.hu.copy()
    canvas.hu[...] = 0
    canvas.blend(margin, hu)
    np.testing.assert_array_equal(canvas.hu, boxed)  # the box changes nothing
