import nibabel
import numpy as np
import pytest
from prepare.chest import deformation, dice, grid_of, scan, turned

from ctssl.cohorts.phantom import chest, lungs
from ctssl.errors import ScanError
from ctssl.prepare.grid import Grid
from ctssl.prepare.images import write_array
from ctssl.prepare.mask import LEFT, RIGHT, check_mask, given_mask, lung_box, threshold_mask


@pytest.mark.parametrize(("person", "grade"), [(0, 0), (1, 0), (2, 4), (3, 4)])
def test_phantom_lungs_are_found_on_their_sides(person, grade):
    made = scan(person, grade, 4.0)
    mask = threshold_mask(made.hu, grid_of(made))
    assert mask.dtype == np.uint8
    assert mask.shape == made.hu.shape
    assert min(dice(mask, made.lungs)) >= 0.95


def test_a_fine_grid_is_masked_on_every_second_voxel():
    made = scan(1, 0, 2.0)
    fine = Grid(grid_of(made).origin_mm, 1.0, grid_of(made).size, "LPS")  # a mouse of a chest
    mask = threshold_mask(made.hu, fine)
    assert mask.shape == made.hu.shape
    assert min(dice(mask, made.lungs)) >= 0.93  # steps of 2 voxels


@pytest.mark.parametrize("person", [0, 1])
def test_windpipe_and_bronchi_are_not_lung(person):
    made = scan(person, 0, 2.0)
    grid = grid_of(made)
    airway = chest.grow()["airway"]
    middles = (airway.starts_mm + airway.ends_mm)[airway.radii_mm > 4] / 2
    middles = middles[lungs.lung_margin(*middles.T) < -2]  # the main bronchi, on their way to the lungs
    trachea = np.stack([np.zeros(30), np.full(30, 15.0), np.linspace(60, 120, 30)], 1)
    points = deformation(person)(np.concatenate([middles, trachea]))
    voxels = np.rint(grid.to_array(points)).astype(int)
    assert len(middles) > 5
    assert (made.hu[tuple(voxels.T)] < -700).mean() > 0.8
    assert (threshold_mask(made.hu, grid)[tuple(voxels.T)] > 0).mean() < 0.2


@pytest.mark.parametrize("person", [3, 5])
def test_the_foam_of_a_table_is_no_lung(person):
    """Wide people's scans show the whole table: a closed shell around foam of the density of lung."""
    made = scan(person, 0, 3.0)
    mask = threshold_mask(made.hu, grid_of(made))
    back = np.flatnonzero((made.lungs > 0).any((0, 2)))[-1]
    foam = (made.hu[:, back + 8 :] > -950) & (made.hu[:, back + 8 :] < -700)
    assert foam.sum() > 5000
    assert not mask[:, back + 8 :].any()
    assert min(dice(mask, made.lungs)) >= 0.96


@pytest.mark.parametrize("axes", ["RPS", "RAS", "LAI", "RPI"])
def test_sides_do_not_depend_on_the_axes(axes):
    made = scan(2, 4)
    grid = grid_of(made)
    mask = threshold_mask(*turned(made.hu, grid, axes))
    assert min(dice(mask, turned(made.lungs, grid, axes)[0])) >= 0.95


def test_lungs_that_the_field_of_view_cuts_are_found():
    made = scan(1)
    for part in (slice(None, 40), slice(30, None)):  # without the top, without the bottom
        mask = threshold_mask(made.hu[part], grid_of(made))
        assert min(dice(mask, made.lungs[part])) >= 0.93


def body(shape=(40, 50, 60)) -> tuple[np.ndarray, Grid]:
    hu = np.full(shape, -1000, np.int16)
    hu[:, 10:40, 10:50] = 40
    return hu, Grid((0.0, 0.0, 0.0), 5.0, shape[::-1], "LPS")


def test_no_lungs_exclude_the_scan():
    with pytest.raises(ScanError, match="no lungs") as fault:
        threshold_mask(*body())
    assert "mask column" in fault.value.advice
    hu, grid = body()
    with pytest.raises(ScanError, match="no lungs"):
        threshold_mask(np.full_like(hu, 30), grid)
    with pytest.raises(ScanError, match="no lungs"):
        threshold_mask(np.full_like(hu, -1000), grid)


def test_little_lung_is_no_lung():
    mask = np.zeros((20, 20, 20), np.uint8)
    mask[:5, :5, :5], mask[10:, :10, :10] = RIGHT, LEFT
    assert check_mask(mask, 10.0, 1.0) == {"right_l": 0.125, "left_l": 1.0}
    with pytest.raises(ScanError, match=r"1\.12 l where 1\.2 l"):
        check_mask(mask, 10.0, 1.2)


def test_lung_box_has_a_margin_within_the_array():
    mask = np.zeros((30, 40, 50), np.uint8)
    mask[2:9, 20:31, 45:50] = LEFT
    low, high = lung_box(mask, margin=5)
    np.testing.assert_array_equal([low, high], [[0, 15, 40], [14, 36, 50]])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_a_given_mask_is_put_on_the_grid(tmp_path, dtype):
    made = scan()
    grid = grid_of(made)
    write_array(tmp_path / "m.nii.gz", *turned(made.lungs.astype(dtype), grid, "RAS"))
    got = given_mask(tmp_path / "m.nii.gz", grid, 10**9)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, made.lungs)


def test_a_given_mask_holds_only_0_1_2(tmp_path):
    made = scan()
    write_array(tmp_path / "m.nii.gz", (made.lungs > 0).astype(np.uint8) * 255, grid_of(made))
    with pytest.raises(ScanError, match="the values 0, 255") as fault:
        given_mask(tmp_path / "m.nii.gz", grid_of(made), 10**9)
    assert "1 in the right lung and 2 in the left" in fault.value.advice


def test_a_given_mask_of_another_place_is_empty_and_excludes(tmp_path):
    made = scan()
    affine = np.diag([5.0, 5, 5, 1])
    affine[:3, 3] = 5000
    nibabel.save(nibabel.Nifti1Image(made.lungs.transpose(2, 1, 0), affine), tmp_path / "m.nii")
    mask = given_mask(tmp_path / "m.nii", grid_of(made), 10**9)
    with pytest.raises(ScanError, match="no lungs"):
        check_mask(mask, 5.0, 0.3)
