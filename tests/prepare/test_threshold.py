"""Masks by thresholds, against the truth of phantoms."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from prepare.chest import AXES, canonical, deformation, dice, grid_of, scan, subject, turned

from ctssl.cohorts.phantom import chest, lungs
from ctssl.cohorts.phantom.disease import Disease
from ctssl.cohorts.phantom.scan import SyntheticScan, make_scan
from ctssl.cohorts.phantom.scanner import Scanner, scanner_of
from ctssl.errors import ScanError
from ctssl.prepare.doubts import mask_doubts
from ctssl.prepare.grid import Grid
from ctssl.prepare.sharpen import sharpen
from ctssl.prepare.sides import Spine, part_sides
from ctssl.prepare.threshold import threshold_mask
from ctssl.prepare.upright import from_upright, to_upright

EMPHYSEMA = Disease(centrilobular=5, paraseptal=2, panlobular=2)


@cache
def sick(person: int, disease: Disease, site: str = "A", spacing_mm: float = 4.0) -> SyntheticScan:
    scanner = scanner_of(site, Scanner(spacing_mm, spacing_mm))
    return make_scan(replace(subject(person), disease=disease), scanner, canonical())


@cache
def masked(person: int, grade: int = 0, spacing_mm: float = 4.0, hard: tuple[str, ...] = ()) -> np.ndarray:
    made = scan(person, grade, spacing_mm, hard)
    return threshold_mask(made.hu, grid_of(made))


def dice_of(ours: np.ndarray, truth: np.ndarray, label: int) -> float:
    return dice(np.where(ours == label, 1, 2), np.where(truth == label, 1, 2))[0]


@pytest.mark.parametrize(("person", "site"), [(1, "A"), (3, "C")])
def test_healthy_lungs(person, site):
    made = sick(person, Disease(), site)
    assert min(dice(threshold_mask(made.hu, grid_of(made)), made.lungs)) >= 0.975


@pytest.mark.parametrize(("person", "site"), [(4, "A"), (5, "B")])
def test_emphysema(person, site):
    made = sick(person, EMPHYSEMA, site)
    assert min(dice(threshold_mask(made.hu, grid_of(made)), made.lungs)) >= 0.975


@pytest.mark.parametrize(("person", "site"), [(1, "B"), (4, "A")])
def test_dense_disease_at_the_ribs_is_lung(person, site):
    made = sick(person, Disease(ground_glass=4), site)
    assert min(dice(threshold_mask(made.hu, grid_of(made)), made.lungs)) >= 0.93


@pytest.mark.parametrize("spacing_mm", [2.0, 5.3])
def test_voxels_may_be_fine_or_coarse(spacing_mm):
    made = scan(1, 3, spacing_mm)
    assert min(dice(masked(1, 3, spacing_mm), made.lungs)) >= 0.975


@pytest.mark.parametrize("hard", ["motion", "metal", "cut-bottom", "cut-top", "cut-side", "tilt", "low-dose"])
def test_hard_scans(hard):
    made = scan(2, 0, 4.0, (hard,))
    assert min(dice(masked(2, 0, 4.0, (hard,)), made.lungs)) >= 0.965


@pytest.mark.parametrize(("hard", "there"), [("one-lung-right", 2), ("one-lung-left", 1)])
def test_one_lung_is_on_its_side(hard, there):
    made = scan(2, 0, 4.0, (hard,))
    mask = masked(2, 0, 4.0, (hard,))
    assert set(np.unique(mask)) == {0, there}
    assert dice_of(mask, made.lungs, there) >= 0.97


def with_arms(made: SyntheticScan, sides: tuple[int, ...]) -> tuple[np.ndarray, Grid]:
    """HU and grid, made wider, with arms of more and harder bone than the spine: 1 right, 2 left."""
    grid, wide = grid_of(made), 25
    hu = np.pad(made.hu, ((0, 0), (0, 0), (wide, wide)), constant_values=-1000)
    k, j, i = hu.shape
    body = np.flatnonzero((hu > -200).any((0, 1)))
    y, x = np.ogrid[:j, :i]
    for side in sides:
        centre = max(body[0] - 8, 8) if side == 1 else min(body[-1] + 8, i - 9)
        away_mm = np.hypot(y - j / 2 - 5, x - centre) * grid.spacing_mm
        hu[:, away_mm < 35] = 40
        hu[:, away_mm < 24] = 1500
    origin = grid.to_points(np.array([0.0, 0.0, -wide]))
    return hu, Grid(tuple(origin), grid.spacing_mm, (i, j, k), grid.axes)


@pytest.mark.parametrize("arms", [(1,), (2,), (1, 2)])
@pytest.mark.parametrize("hard", [(), ("one-lung-right",), ("one-lung-left",)])
def test_arms_beside_the_chest_are_no_spine(hard, arms):
    made = scan(2, 5, 5.0, hard)
    mask = threshold_mask(*with_arms(made, arms))[:, :, 25:-25]
    there = [side for side in (1, 2) if (made.lungs == side).any()]
    assert set(np.unique(mask)) == {0, *there}
    assert min(dice_of(mask, made.lungs, side) for side in there) >= 0.95


@pytest.mark.parametrize("side", [1, 2])
def test_one_lung_without_a_spine_is_refused(side):
    """Ribs one above another are no spine; and either side would be a guess."""
    made = scan(3, 0, 4.0)
    columns = np.flatnonzero((made.lungs == side).any((0, 1)))
    half = slice(0, columns[-1] - 7) if side == 1 else slice(columns[0] + 8, None)
    hu = np.ascontiguousarray(made.hu[:, :, half])
    with pytest.raises(ScanError, match="which lung this is is not certain") as fault:
        threshold_mask(hu, Grid((0.0, 0.0, 0.0), 4.0, hu.shape[::-1], "LPS"))
    assert "mask column" in fault.value.advice


@pytest.mark.parametrize("disease", [Disease(centrilobular=4), EMPHYSEMA])
@pytest.mark.parametrize("spacing_mm", [4.0, 5.0])
def test_emphysema_that_a_side_of_the_image_cuts_is_not_the_room(disease, spacing_mm):
    who = replace(subject(2), disease=disease)
    made = make_scan(who, Scanner(spacing_mm, spacing_mm, hard=("cut-side",)), canonical())
    assert (made.lungs[:, :, [0, -1]] > 0).sum() * spacing_mm**2 > 2000  # mm2 of lung on a side
    assert min(dice(threshold_mask(made.hu, grid_of(made)), made.lungs)) >= 0.965


def test_lungs_darker_than_the_room_s_limit_are_kept_where_both_sides_cut_them():
    made = scan(1, 0, 4.0)
    columns = np.flatnonzero((made.lungs > 0).any((0, 1)))
    part = slice(columns[0] + 4, columns[-1] - 3)
    truth = made.lungs[:, :, part]
    hu = np.where(truth > 0, np.maximum(made.hu[:, :, part] - 110, -1000), made.hu[:, :, part])
    mask = threshold_mask(hu, Grid((0.0, 0.0, 0.0), 4.0, hu.shape[::-1], "LPS"))
    assert min(dice(mask, truth)) >= 0.965


@pytest.mark.parametrize("side", [1, 2])
def test_a_scan_cropped_to_one_lung(side):
    """The lung touches three sides of the image; what lies behind the spine is not in it."""
    made = scan(1, 0, 4.0)
    grid = grid_of(made)
    box = [np.flatnonzero((made.lungs == side).any(tuple(a for a in range(3) if a != d))) for d in range(3)]
    low, high = np.array([b[0] for b in box]), np.array([b[-1] + 1 for b in box])
    low[1] += 2  # into the lung
    low[2], high[2] = low[2] - (4 if side == 2 else -2), high[2] + (4 if side == 1 else -2)
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    mask = threshold_mask(made.hu[part], grid.crop(low, high))
    truth = np.where(made.lungs[part] == side, side, 0)
    assert dice_of(mask, truth, side) >= 0.95


@pytest.mark.parametrize(("person", "grade"), [(1, 0), (3, 5)])
def test_windpipe_and_bronchi_are_not_lung(person, grade):
    made = scan(person, grade, 3.0)
    grid = grid_of(made)
    airway = chest.grow()["airway"]
    middles = (airway.starts_mm + airway.ends_mm)[airway.radii_mm > 4] / 2
    middles = middles[lungs.lung_margin(*middles.T) < -2]  # the main bronchi, on their way to the lungs
    trachea = np.stack([np.zeros(30), np.full(30, 15.0), np.linspace(60, 120, 30)], 1)
    points = deformation(person)(np.concatenate([middles, trachea]))
    voxels = np.rint(grid.to_array(points)).astype(int)
    assert len(middles) > 5
    assert (made.hu[tuple(voxels.T)] < -700).mean() > 0.8
    assert (masked(person, grade, 3.0)[tuple(voxels.T)] > 0).mean() < 0.1


@pytest.mark.parametrize("person", [3, 5])
def test_the_foam_of_a_table_is_no_lung(person):
    """Wide people's scans show the whole table: a closed shell around foam of the density of lung."""
    made = scan(person, 0, 4.0)
    back = np.flatnonzero((made.lungs > 0).any((0, 2)))[-1]
    foam = (made.hu[:, back + 8 :] > -950) & (made.hu[:, back + 8 :] < -700)
    assert foam.sum() > 5000
    assert not masked(person)[:, back + 8 :].any()


def test_gas_below_the_diaphragm_is_no_lung():
    made = scan(1, 0, 4.0)
    gas = (made.hu < -900) & (made.lungs == 0)
    gas[made.hu.shape[0] // 3 :] = False
    middle = np.array(made.hu.shape[1:]) // 2
    gas[:, : middle[0] - 40] = gas[:, middle[0] + 25 :] = False
    gas[:, :, : middle[1]] = gas[:, :, middle[1] + 40 :] = False
    assert gas.sum() * 0.064 > 20  # ml, of the stomach
    assert not masked(1)[gas].any()


@pytest.mark.parametrize("axes", AXES)
def test_arrays_are_turned_upright_and_back(axes):
    values = np.arange(24).reshape(2, 3, 4)
    grid = Grid((0.0, 0.0, 0.0), 1.0, (4, 3, 2), "LPS")
    other, _ = turned(values, grid, axes)
    np.testing.assert_array_equal(to_upright(other, axes), values)
    np.testing.assert_array_equal(from_upright(values, axes), other)


@pytest.mark.parametrize("axes", AXES[::7])
def test_sides_do_not_depend_on_the_axes(axes):
    made = scan(2, 0, 5.0)
    grid = grid_of(made)
    mask = threshold_mask(*turned(made.hu, grid, axes))
    np.testing.assert_array_equal(mask, turned(masked(2, 0, 5.0), grid, axes)[0])


@pytest.mark.parametrize("line_hu", [-500, -850])
def test_lungs_that_touch_are_parted_where_they_touch(line_hu):
    """The tissue between the lungs is taken away where it is thin, but for a line one voxel wide."""
    made = scan(1, 0, 4.0)
    hu, truth, rows = made.hu.copy(), made.lungs, 0
    for z, y in np.ndindex(hu.shape[:2]):
        right, left = (np.flatnonzero(truth[z, y] == side) for side in (1, 2))
        if len(right) and len(left) and 0 < left[0] - right[-1] - 1 <= 7:
            hu[z, y, right[-1] + 1 : left[0]] = -850
            hu[z, y, (right[-1] + 1 + left[0]) // 2] = line_hu
            rows += 1
    assert rows > 60
    mask = threshold_mask(hu, grid_of(made))
    assert min(dice(mask, truth)) >= 0.96
    swapped = (truth > 0) & (mask == 3 - truth)
    assert swapped.sum() * 0.064 < 30  # ml


def test_lungs_that_nothing_parts_are_cut_at_the_spine():
    air = np.zeros((20, 30, 60), bool)
    air[:, :, 5:55] = True
    hu = np.where(air, -850.0, 40.0)
    both = part_sides(air, hu, Spine(28.0, sure=True), 4.0)
    assert (both[:, :, 5:28] == 1).all()
    assert (both[:, :, 28:55] == 2).all()
    one = part_sides(air, hu, Spine(8.0, sure=True), 4.0)  # one lung, beyond the spine a little
    assert set(np.unique(one)) == {0, 2}


def test_no_lungs_exclude_the_scan():
    shape = (40, 50, 60)
    grid = Grid((0.0, 0.0, 0.0), 5.0, shape[::-1], "LPS")
    hu = np.full(shape, -1000, np.int16)
    hu[:, 10:40, 10:50] = 40
    for values in (hu, np.full_like(hu, 30), np.full_like(hu, -1000)):
        with pytest.raises(ScanError, match="no lungs") as fault:
            threshold_mask(values, grid)
        assert "mask column" in fault.value.advice


def ball(grid: Grid, radius_mm: float) -> np.ndarray:
    """(z, y, x) bool: a ball about the origin."""
    points = grid.to_points(np.argwhere(np.ones(grid.shape, bool)).astype(float))
    return (np.linalg.norm(points, axis=1) < radius_mm).reshape(grid.shape)


def test_sharpened_masks_end_where_the_finer_values_do():
    coarse = Grid((-60.0, -60.0, -60.0), 4.0, (31, 31, 31), "LPS")
    fine = Grid((-50.5, -52.0, -49.0), 1.0, (101, 104, 99), "LPS")
    hu = np.where(ball(fine, 40), -850, 40).astype(np.int16)
    mask = 2 * ball(coarse, 40).astype(np.uint8)
    got = sharpen(mask, coarse, hu, fine)
    assert got.dtype == np.uint8
    assert set(np.unique(got)) == {0, 2}
    assert dice_of(got, 2 * ball(fine, 40), 2) >= 0.995
    plain = sharpen(mask, coarse, np.full_like(hu, -850), fine)  # nothing to be seen: the coarse outline
    assert 0.95 < dice_of(plain, 2 * ball(fine, 40), 2) < 0.99


def test_sharpening_keeps_what_was_closed_and_what_was_left_out():
    coarse = Grid((-60.0, -60.0, -60.0), 2.0, (61, 61, 61), "LPS")
    fine = Grid((-50.0, -50.0, -50.0), 1.0, (101, 101, 101), "LPS")
    vessel = ball(fine, 40) & (np.hypot(*np.mgrid[-50:51, -50:51])[None] < 8)  # leaves at both ends along z
    hu = np.where(ball(fine, 40) & ~vessel, -850, 40).astype(np.int16)
    mask = ball(coarse, 40).astype(np.uint8)
    inside = ball(fine, 38)
    assert sharpen(mask, coarse, hu, fine)[inside].all()
    mask[:, :, :30] = 0  # the other half is air too, but no lung
    half = sharpen(mask, coarse, np.where(ball(fine, 40), -850, 40).astype(np.int16), fine)
    assert not half[:, :, :46].any()
    assert half[inside][np.argwhere(inside)[:, 2] > 52].all()


def test_grids_along_other_axes_are_not_sharpened():
    coarse = Grid((0.0, 0.0, 0.0), 2.0, (8, 8, 8), "LPS")
    fine = Grid((0.0, 0.0, 0.0), 1.0, (8, 8, 8), "RAS")
    with pytest.raises(ValueError, match="LPS and RAS"):
        sharpen(np.zeros((8, 8, 8), np.uint8), coarse, np.zeros((8, 8, 8), np.int16), fine)


def test_dense_disease_makes_doubts_and_emphysema_none():
    for disease, count in ((Disease(), 0), (EMPHYSEMA, 0), (Disease(ground_glass=4), 2)):
        made = sick(4, disease)
        doubts = mask_doubts(threshold_mask(made.hu, grid_of(made)), made.hu, grid_of(made))
        assert len(doubts) == count
        assert all("as dense as tissue" in doubt for doubt in doubts)


def test_air_beside_the_lung_and_lung_left_out_make_doubts():
    made = scan(2, 0, 4.0, ("pneumothorax",))
    (doubt,) = mask_doubts(masked(2, 0, 4.0, ("pneumothorax",)), made.hu, grid_of(made))
    assert "right lung" in doubt
    assert "pneumothorax" in doubt
    made = scan(1, 0, 4.0)
    bitten = made.lungs.copy()
    left = np.flatnonzero((made.lungs == 2).any((0, 1)))
    bitten[20:40, :, left[-1] - 12 :] = 0
    hu = np.where((made.lungs > 0) & (bitten == 0), 40, made.hu)
    (doubt,) = mask_doubts(bitten, hu, grid_of(made))
    assert "left lung lies between it and the ribs" in doubt


def test_a_child_and_a_lung_at_the_side_make_doubts():
    made = scan(1, 0, 4.0)
    grid = grid_of(made)
    small = Grid(grid.origin_mm, 2.2, grid.size, grid.axes)
    (doubt,) = mask_doubts(made.lungs, made.hu, small)
    litres = (made.lungs > 0).sum() * 2.2**3 / 1e6
    assert f"{litres:.2f} l for both lungs: a child?" in doubt
    columns = np.flatnonzero((made.lungs == 1).any((0, 1)))
    part = slice(columns[0] + 3, None)
    cut = Grid(grid.origin_mm, 4.0, made.lungs[:, :, part].shape[::-1], grid.axes)
    (doubt,) = mask_doubts(made.lungs[:, :, part], made.hu[:, :, part], cut)
    assert doubt.startswith("the right lung reaches the side of the image")
