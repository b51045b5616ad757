import gzip
import shutil

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from prepare.chest import AXES, grid_of, scan, turned
from prepare.dicom import write_series
from scipy.ndimage import map_coordinates

from ctssl.errors import ScanError
from ctssl.prepare.grid import covering_grid
from ctssl.prepare.images import write_array
from ctssl.prepare.volume import check_hu, frame_of, image_on_grid, read_image

MANY = 10**9
HU = scan().hu // 2 * 2  # even: a rescale slope of 2 loses nothing
GRID = grid_of(scan())
NRRD = """NRRD0004
type: short
dimension: 3
space: left-posterior-superior
sizes: {sizes}
space directions: (1,0,0) (0,1,0) ({shear},0,1)
kinds: domain domain domain
endian: little
encoding: raw
space origin: (0,0,0)

"""


def on_frame(path) -> np.ndarray:
    """What the workflow makes of an image: HU on the atlas's axes, here LPS at 5 mm."""
    image = read_image(path, MANY)
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
    read = read_image(tmp_path / "tilted.mha", MANY)
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
    got = image_on_grid(read_image(tmp_path / "a.nii", MANY), fine, outside=-1024)
    index = np.stack(np.meshgrid(*map(np.arange, fine.shape), indexing="ij"), -1).reshape(-1, 3)
    where = GRID.to_array(fine.to_points(index.astype(float))).T
    expected = map_coordinates(HU.astype(float), where, order=1, mode="nearest").reshape(fine.shape)
    np.testing.assert_allclose(got, expected, atol=0.05)


def damaged_files():
    """Name -> (what makes the file, a word of the message)."""
    volume = HU[:20, :20, :20]

    def save(array, vector=False):
        return lambda path: sitk.WriteImage(sitk.GetImageFromArray(array, isVector=vector), str(path))

    def half(path):
        save(volume)(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def headless(path):
        save(volume)(path)
        path.with_suffix(".raw").unlink()

    def nan(path):
        array = volume.astype(np.float32)
        array[3, 5, 7] = np.nan
        save(array)(path)

    def sheared(path):
        affine = np.eye(4)
        affine[0, 2] = 0.4
        nibabel.save(nibabel.Nifti1Image(volume, affine), path)

    def metres(path):
        image = sitk.GetImageFromArray(volume)
        image.SetSpacing((1000.0, 1000.0, 1000.0))
        sitk.WriteImage(image, str(path))

    return {
        "missing.nii": (lambda _: None, "does not exist"),
        "empty.nii.gz": (lambda path: path.write_bytes(b""), "cannot be read"),
        "text.nii.gz": (lambda path: path.write_text("no image"), "cannot be read"),
        "zipped-text.nii.gz": (lambda path: path.write_bytes(gzip.compress(b"no image")), "cannot be read"),
        "half.nii": (half, "damaged"),
        "half.nii.gz": (half, "damaged"),
        "half.nrrd": (half, "cannot be read"),
        "half.mha": (half, "cannot be read"),
        "headless.mhd": (headless, "cannot be read"),
        "flat.nii": (save(volume[0]), "2 dimensions"),
        "film.nii": (save(np.stack([volume, volume])), "4 dimensions"),
        "colour.mha": (save(np.stack([volume] * 3, -1).astype(np.uint8), vector=True), "3 values"),
        "thin.nii": (save(volume[:7]), "only 7 voxels"),
        "nan.nii": (nan, "not finite"),
        "nan.nii.gz": (nan, "not finite"),
        "nan.mha": (nan, "not finite"),
        "sheared.nii": (sheared, "orthonormal"),
        "sheared.nrrd": (
            lambda path: path.write_bytes(
                NRRD.format(sizes="20 20 20", shear=0.4).encode() + volume.tobytes()
            ),
            "right angles",
        ),
        "huge.nrrd": (  # a header and no voxels
            lambda path: path.write_text(NRRD.format(sizes="40000 40000 40000", shear=0)),
            "max_voxels",
        ),
        "metres.nrrd": (metres, "spacing|measures"),
    }


@pytest.mark.parametrize("name", damaged_files())
def test_a_bad_file_excludes_the_scan_with_advice(tmp_path, name):
    make, word = damaged_files()[name]
    make(tmp_path / name)
    with pytest.raises(ScanError, match=word) as fault:
        read_image(tmp_path / name, MANY)
    assert fault.value.advice


def test_max_voxels_of_a_dicom_folder_is_counted_before_reading(tmp_path, monkeypatch):
    write_series(tmp_path / "scan", HU[:10, :12, :14], GRID, slope=1, intercept=0)
    read_image(tmp_path / "scan", 10 * 12 * 14)
    monkeypatch.setattr(sitk, "ReadImage", None)
    with pytest.raises(ScanError, match="14 x 12 x 10"):
        read_image(tmp_path / "scan", 10 * 12 * 14 - 1)


@pytest.mark.parametrize("content", [None, "text"])
def test_a_folder_without_slices_excludes_the_scan(tmp_path, content):
    (tmp_path / "scan").mkdir()
    if content:
        (tmp_path / "scan/notes.txt").write_text(content)
    with pytest.raises(ScanError, match="no DICOM series") as fault:
        read_image(tmp_path / "scan", MANY)
    assert fault.value.advice


def test_values_that_are_no_hounsfield_units_exclude_the_scan():
    check_hu(HU)
    for wrong in (HU + 1024, (scan().lungs > 0).astype(np.int16), HU // 10, np.full_like(HU, -1000)):
        with pytest.raises(ScanError, match="Hounsfield") as fault:
            check_hu(wrong)
        assert fault.value.advice
