import numpy as np
import pytest
import SimpleITK as sitk
from prepare.chest import AXES, LETTERS

from ctssl.prepare.grid import Grid, axes_direction, covering_grid
from ctssl.prepare.images import read_array, write_array
from ctssl.prepare.volume import frame_of, image_on_grid


def grid(axes: str) -> Grid:
    return Grid((-11.5, 7.25, 300.0), 1.75, (6, 9, 4), axes)


def test_there_are_48_codes():
    assert len(set(AXES)) == 48


@pytest.mark.parametrize("axes", AXES)
def test_points_are_those_of_simpleitk_and_come_back(axes):
    here = grid(axes)
    image = sitk.Image(here.size, sitk.sitkUInt8)
    image.SetOrigin(here.origin_mm)
    image.SetSpacing([here.spacing_mm] * 3)
    image.SetDirection(np.array([LETTERS[letter] for letter in axes], float).T.ravel().tolist())
    positions = np.random.default_rng(0).uniform(-3, 12, (20, 3))
    points = here.to_points(positions)
    expected = [image.TransformContinuousIndexToPhysicalPoint(p[::-1].tolist()) for p in positions]
    np.testing.assert_allclose(points, expected, atol=1e-9)
    np.testing.assert_allclose(here.to_array(points), positions, atol=1e-9)


@pytest.mark.parametrize("axes", ["LPS", "RAI", "PSL", "IRA"])
def test_crop_keeps_voxels_where_they_are(axes):
    here = grid(axes)
    index = np.stack(np.meshgrid(*map(np.arange, here.shape), indexing="ij"), -1)
    low, high = np.array([1, 2, 3]), np.array([4, 9, 5])
    part = here.crop(low, high)
    assert part.shape == (3, 7, 2)
    inside = np.stack(np.meshgrid(*map(np.arange, part.shape), indexing="ij"), -1)
    np.testing.assert_allclose(part.to_points(inside), here.to_points(index[1:4, 2:9, 3:5]), atol=1e-9)


@pytest.mark.parametrize("axes", ["LPS", "RAS", "SLP", "AIR"])
def test_covering_grid_fills_the_box_and_stays_inside(axes):
    rng = np.random.default_rng(1)
    for _ in range(20):
        corners = rng.uniform(-100, 100, (8, 3))
        spacing = rng.uniform(0.5, 9)
        made = covering_grid(corners, spacing, axes)
        ends = made.corners_mm()
        assert (ends.min(0) >= corners.min(0) - 1e-3 * spacing).all()
        assert (ends.max(0) <= corners.max(0) + 1e-3 * spacing).all()
        assert (np.ptp(ends, axis=0) + spacing > np.ptp(corners, axis=0)).all()  # no room for one more voxel
        np.testing.assert_allclose(ends.mean(0), (corners.min(0) + corners.max(0)) / 2, atol=1e-6)


@pytest.mark.parametrize("spacing_mm", [0.7, 0.9, 1.4, 1.8])
@pytest.mark.parametrize("axes", ["LPS", "RAS"])
def test_a_header_whose_spacing_is_rounded_moves_no_voxel(tmp_path, spacing_mm, axes):
    """NIfTI holds 0.7 mm as 0.699999988; the grid of the file is still that of 0.7 mm, to the voxel."""
    array = np.random.default_rng(0).integers(-1000, 1000, (31, 40, 253)).astype(np.int16)
    path = tmp_path / "scan.nii.gz"
    write_array(path, array, Grid((-17.3, 41.9, -300.1), spacing_mm, (253, 40, 31), axes))
    image = sitk.ReadImage(str(path))
    assert image.GetSpacing()[0] == pytest.approx(float(np.float32(spacing_mm)), abs=1e-12)
    assert float(np.float32(spacing_mm)) < spacing_mm
    made = frame_of(image, spacing_mm, axes)
    assert made.shape == array.shape
    np.testing.assert_allclose(made.origin_mm, (-17.3, 41.9, -300.1), atol=1e-4)
    np.testing.assert_allclose(image_on_grid(image, made, outside=-2000), array, atol=0.1)


def test_a_box_thinner_than_a_voxel_gets_one():
    assert covering_grid(np.array([[0.0, 0, 0], [10, 10, 0.5]]), 2.0, "LPS").size == (6, 6, 1)


@pytest.mark.parametrize("axes", ["LP", "LRS", "LPSI", "LLS"])
def test_axes_are_three_unlike_letters(axes):
    with pytest.raises(ValueError, match="three letters"):
        axes_direction(axes)


@pytest.mark.parametrize("axes", ["LPS", "LAS", "SRP", "IAL"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha"])
def test_arrays_come_back_from_files_with_their_grid(tmp_path, axes, name):
    array = np.random.default_rng(0).integers(-1000, 1000, grid(axes).shape).astype(np.int16)
    write_array(tmp_path / name, array, grid(axes))
    back, where = read_array(tmp_path / name)
    np.testing.assert_array_equal(back, array)
    assert (where.size, where.axes) == (grid(axes).size, axes)
    np.testing.assert_allclose([*where.origin_mm, where.spacing_mm], [*grid(axes).origin_mm, 1.75], atol=1e-4)
