import numpy as np
import pytest
from prepare.chest import grid_of, scan, turned

from ctssl.errors import ScanError
from ctssl.prepare.images import write_array
from ctssl.prepare.mask import LEFT, RIGHT, check_given, check_mask, check_sides, given_labels, lung_box
from ctssl.prepare.volume import image_on_grid


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


def test_an_empty_mask_has_no_box():
    with pytest.raises(ScanError, match="no lungs"):
        lung_box(np.zeros((5, 5, 5), np.uint8), margin=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_a_given_mask_keeps_its_labels_and_its_place(tmp_path, dtype):
    made = scan()
    grid = grid_of(made)
    write_array(tmp_path / "m.nii.gz", *turned(made.lungs.astype(dtype), grid, "RAS"))
    got = image_on_grid(given_labels(tmp_path / "m.nii.gz", 10**9), grid, outside=0, labels=True)
    np.testing.assert_array_equal(got, made.lungs)


@pytest.mark.parametrize(
    ("values", "shown", "advice"),
    [
        ((0, 50, 100), "0, 50, 100", "set 50 and 100 to 1 and 2"),
        ((0, 255, 255), "0, 255", "part the two lungs"),
        ((0, 4, 9), "0, 4, 9", "1 in the right lung and 2 in the left"),
    ],
)
def test_a_given_mask_holds_only_0_1_2(tmp_path, values, shown, advice):
    made = scan()
    write_array(tmp_path / "m.nii.gz", np.array(values, np.uint8)[made.lungs], grid_of(made))
    with pytest.raises(ScanError, match=f"the values {shown}") as fault:
        given_labels(tmp_path / "m.nii.gz", 10**9)
    assert advice in fault.value.advice


def given(folder, mask, grid):
    write_array(folder / "m.nii.gz", mask, grid)
    return given_labels(folder / "m.nii.gz", 10**9)


def test_a_mask_that_fits_its_scan_passes(tmp_path):
    made = scan()
    check_given(given(tmp_path, made.lungs, grid_of(made)), made.lungs, made.hu, grid_of(made))


@pytest.mark.parametrize("axes", ["LPS", "RAI", "SAL"])
def test_exchanged_sides_are_noticed_whatever_the_axes(axes):
    made = scan()
    check_sides(*turned(made.lungs, grid_of(made), axes), "it")
    with pytest.raises(ScanError, match="in it label 1 lies to the left of label 2"):
        check_sides(*turned(np.array([0, 2, 1], np.uint8)[made.lungs], grid_of(made), axes), "it")


@pytest.mark.parametrize("label", [RIGHT, LEFT])
def test_one_label_for_both_lungs_is_noticed_and_one_lung_is_not(label):
    made = scan()
    check_sides(np.where(made.lungs == label, label, 0), grid_of(made), "it")
    both = np.where(made.lungs > 0, label, 0)
    with pytest.raises(ScanError, match="both lungs have one label"):
        check_sides(both, grid_of(made), "it")
    middle = made.lungs.shape[0] // 2
    rows = np.flatnonzero(made.lungs[middle].any(1))
    columns = np.flatnonzero(made.lungs[middle].any(0))
    both[middle, rows.mean().astype(int), columns[0] : columns[-1]] = label  # and they touch
    with pytest.raises(ScanError, match="both lungs have one label"):
        check_sides(both, grid_of(made), "it")
    with pytest.raises(ScanError, match="it is empty"):
        check_sides(np.zeros_like(both), grid_of(made), "it")


@pytest.mark.parametrize(("shift", "word"), [(25, "lie outside"), (-8, "HU, and lung is near")])
def test_a_mask_of_another_place_is_noticed(tmp_path, shift, word):
    """Moved along x: beyond the scan; and into the body's wall and the heart."""
    made, grid = scan(), grid_of(scan())
    if shift < 0:
        mask = np.zeros_like(made.lungs)
        mask[5:25, 40:60, 30:45] = RIGHT
        mask[(made.hu < -300) & (mask > 0)] = 0
        labels = given(tmp_path, mask, grid)
    else:
        mask = np.roll(made.lungs, shift, 2)
        mask[:, :, :shift] = 0
        labels = given(tmp_path, made.lungs, grid)
    with pytest.raises(ScanError, match=word) as fault:
        check_given(labels, mask, made.hu, grid)
    assert "drawn on this scan" in fault.value.advice
