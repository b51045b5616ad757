import numpy as np
import pytest
from prepare.chest import grid_of, scan, turned

from ctssl.errors import ScanError
from ctssl.prepare.images import write_array
from ctssl.prepare.mask import LEFT, RIGHT, check_mask, given_labels, lung_box
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
