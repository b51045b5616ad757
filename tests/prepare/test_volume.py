import shutil

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from prepare.chest import AXES, grid_of, scan, turned
from prepare.dicom import write_series
from scipy.ndimage import map_coordinates

from ctssl.prepare.grid import covering_grid
from ctssl.prepare.images import write_array
from ctssl.prepare.reading import read_scan
from ctssl.prepare.volume import frame_of, image_on_grid, overview, seen_on_grid

MANY = 10**9
HU = scan().hu // 2 * 2  # even: a rescale slope of 2 loses nothing
GRID = grid_of(scan())


def on_frame(path) -> np.ndarray:
    """What the workflow makes of an image: HU on the atlas's axes, here LPS at 5 mm."""
    image = read_scan(path, MANY).image
    grid = frame_of(image, 5.0, "LPS")
    np.testing.assert_allclose(grid.origin_mm, GRID.origin_mm, atol=1e-3)
    assert (grid.size, grid.axes) == (GRID.size, "LPS")
    return image_on_grid(image, grid, outside=-1024)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.mhd"])
def test_every_format_gives_the_same_values(tmp_path, name):
    write_array(tmp_path / name, HU, GRID)
    assert name != "a.mhd" or (tmp_path / "a.raw").exists()
    np.testing.assert_allclose(on_frame(tmp_path / name), HU, atol=0.1)


def test_nifti_slope_and_intercept_are_applied_once(tmp_path):
    write_array(tmp_path / "plain.nii", HU, GRID)
    image = nibabel.Nifti1Image(
        ((HU + 1024) // 2).transpose(2, 1, 0), nibabel.load(tmp_path / "plain.nii").affine
    )
    image.header.set_slope_inter(2.0, -1024.0)
    nibabel.save(image, tmp_path / "scaled.nii.gz")
    np.testing.assert_allclose(on_frame(tmp_path / "scaled.nii.gz"), HU, atol=0.1)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (2.0, -1024.0)])
def test_dicom_slope_and_intercept_are_applied_once(tmp_path, slope, intercept):
    write_series(tmp_path / "scan", HU, GRID, slope=slope, intercept=intercept)
    (tmp_path / "scan/DICOMDIR.txt").write_text("a file that is no slice")
    np.testing.assert_allclose(on_frame(tmp_path / "scan"), HU, atol=0.1)


def test_of_several_series_the_largest_is_read(tmp_path):
    write_series(tmp_path / "scan", HU, GRID, slope=1, intercept=0)
    write_series(tmp_path / "scout", HU[:9] + 500, GRID, slope=1, intercept=0)
    for number, file in enumerate((tmp_path / "scout").iterdir()):
        shutil.copy(file, tmp_path / "scan" / f"0scout{number}")
    np.testing.assert_allclose(on_frame(tmp_path / "scan"), HU, atol=0.1)


@pytest.mark.parametrize("axes", AXES[::5])
def test_flipped_and_permuted_axes_give_the_same_values(tmp_path, axes):
    write_array(tmp_path / "a.nii", *turned(HU, GRID, axes))
    np.testing.assert_allclose(on_frame(tmp_path / "a.nii"), HU, atol=0.1)


def test_an_oblique_scan_is_put_straight(tmp_path):
    """A linear ramp in space, sampled on tilted axes: after resampling it is the ramp again."""
    image = sitk.Image(60, 50, 40, sitk.sitkFloat32)
    turn = sitk.Euler3DTransform()
    turn.SetRotation(0.1, -0.15, 0.2)
    image.SetDirection(turn.GetMatrix())
    image.SetOrigin((5.0, -9.0, 12.0))
    image.SetSpacing((1.0, 1.2, 2.0))
    z, y, x = np.meshgrid(np.arange(40), np.arange(50), np.arange(60), indexing="ij")
    points = (np.stack([x, 1.2 * y, 2.0 * z], -1) @ np.array(turn.GetMatrix()).reshape(3, 3).T) + [5, -9, 12]
    tilted = sitk.GetImageFromArray((points @ [3.0, -2.0, 1.0]).astype(np.float32))
    tilted.CopyInformation(image)
    sitk.WriteImage(tilted, str(tmp_path / "tilted.mha"))
    read = sitk.ReadImage(str(tmp_path / "tilted.mha"))
    grid = frame_of(read, 2.0, "RAS")
    got = image_on_grid(read, grid, outside=-9999)
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    expected = grid.to_points(index) @ [3.0, -2.0, 1.0]
    x, y, z = ((grid.to_points(index) - [5, -9, 12]) @ np.array(turn.GetMatrix()).reshape(3, 3)).T
    inside = ((x >= 0) & (x <= 59) & (y >= 0) & (y <= 1.2 * 49) & (z >= 0) & (z <= 2.0 * 39)).T
    assert 0.3 < inside.mean() < 1
    np.testing.assert_allclose(got[inside], expected[inside], atol=2e-3)
    assert (got[~inside] == -9999).mean() > 0.8  # the rest is the rim: half a voxel


def test_values_between_voxels_are_interpolated_and_not_cut_off(tmp_path):
    write_array(tmp_path / "a.nii", HU, GRID)
    fine = covering_grid(GRID.corners_mm(), 3.7, "LPS")
    got = image_on_grid(read_scan(tmp_path / "a.nii", MANY).image, fine, outside=-1024)
    index = np.stack(np.meshgrid(*map(np.arange, fine.shape), indexing="ij"), -1).reshape(-1, 3)
    where = GRID.to_array(fine.to_points(index.astype(float))).T
    expected = map_coordinates(HU.astype(float), where, order=1, mode="nearest").reshape(fine.shape)
    np.testing.assert_allclose(got, expected, atol=0.05)


def ramp_image(spacing, size=(60, 50, 40), direction=None) -> sitk.Image:
    """Values 3 x - 2 y + z of each voxel's place in LPS mm."""
    image = sitk.Image(size, sitk.sitkFloat32)
    image.SetSpacing(spacing)
    image.SetOrigin((5.0, -9.0, 12.0))
    if direction is not None:
        image.SetDirection(np.ravel(direction).tolist())
    k, j, i = np.meshgrid(*map(np.arange, size[::-1]), indexing="ij")
    steps = np.array(image.GetDirection()).reshape(3, 3) * spacing
    points = np.stack([i, j, k], -1) @ steps.T + image.GetOrigin()
    ramp = sitk.GetImageFromArray((points @ [3.0, -2.0, 1.0]).astype(np.float32))
    ramp.CopyInformation(image)
    return ramp


TURNED = np.array(sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.2, -0.3, 0.25).GetMatrix()).reshape(3, 3)


@pytest.mark.parametrize("direction", [None, TURNED])
@pytest.mark.parametrize(
    ("spacing", "expected_mm"),
    [((0.7, 0.7, 1.0), 2.0), ((1.0, 1.2, 5.0), 2.0), ((3.0, 3.5, 5.0), 3.0), ((9.0, 9.0, 10.0), 6.0)],
)
def test_an_overview_shows_the_same_values_at_the_same_places(spacing, expected_mm, direction):
    image = ramp_image(spacing, direction=direction)
    hu, grid = overview(image, "RAS", outside=-9999)
    assert grid.spacing_mm == expected_mm
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    points = grid.to_points(index.astype(float))
    seen = seen_on_grid(image, None, grid)
    assert (seen is None) == (direction is None)
    seen = np.ones(grid.shape, bool) if seen is None else seen
    assert (hu[~seen] == -9999).all()
    local = (points - image.GetOrigin()) @ np.linalg.inv(np.array(image.GetDirection()).reshape(3, 3)).T
    edge = np.array(spacing) * np.maximum(1, np.rint(expected_mm / np.array(spacing))) / 2
    inside = ((local >= edge) & (local <= (np.array(image.GetSize()) - 1) * spacing - 3 * edge)).all(-1)
    assert inside.mean() > 0.1  # blocks that are not full at the far end are left out
    np.testing.assert_allclose(hu[inside], (points @ [3.0, -2.0, 1.0])[inside], atol=0.02)


def test_an_overview_averages_noise():
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray(rng.normal(0, 100, (60, 60, 60)).astype(np.float32))
    image.SetSpacing((0.5, 0.5, 0.5))
    hu, _ = overview(image, "LPS", outside=0)
    assert hu.std() < 100 / np.sqrt(4**3) * 1.1


@pytest.mark.parametrize("axes", AXES[::11])
def test_what_was_seen_is_where_the_oblique_image_and_no_padding_is(axes):
    image = ramp_image((2.0, 2.0, 3.0), direction=TURNED)
    grid = frame_of(image, 3.0, axes)
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    points = grid.to_points(index.astype(float))
    local = (points - image.GetOrigin()) @ TURNED / (2.0, 2.0, 3.0)
    truth = ((local > -0.5) & (local < np.array(image.GetSize()) - 0.5)).all(-1)
    seen = seen_on_grid(image, None, grid)
    assert (seen != truth).mean() < 1e-4
    assert 0.2 < truth.mean() < 0.8
    values = sitk.GetArrayFromImage(image)
    values[:, :, :20] = -2000.0
    padded = sitk.GetImageFromArray(values)
    padded.CopyInformation(image)
    seen = seen_on_grid(padded, -2000.0, grid)
    assert (seen != (truth & (local[..., 0] > 19.5))).mean() < 1e-4


def test_a_straight_image_without_padding_is_seen_everywhere():
    image = ramp_image((2.0, 2.0, 3.0))
    assert seen_on_grid(image, None, frame_of(image, 3.0, "LPS")) is None
    assert seen_on_grid(image, -2000.0, frame_of(image, 3.0, "LPS")) is None
