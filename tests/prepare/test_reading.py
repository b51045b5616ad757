"""Whatever the format and however its axes are stored, anatomy comes back where it was."""

import errno
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from prepare.balls import SIZE, assert_in_place, body, straight
from prepare.chest import AXES
from prepare.dicom import write_slices
from prepare.files import affine_of, skewed, write_itk, write_nifti, write_nrrd

from ctssl.errors import ScanError
from ctssl.prepare.grid import axes_direction
from ctssl.prepare.hounsfield import PADDING_HU
from ctssl.prepare.reading import read_labels, read_scan

MANY = 10**8
STRAIGHT = straight()
HU = body(STRAIGHT)


def write(path, values, place):
    (write_nifti if ".nii" in path.name else write_itk)(path, values, place)


def refused(path, word, read=read_scan, max_voxels=MANY):
    with pytest.raises(ScanError, match=word) as fault:
        read(path, max_voxels)
    assert fault.value.advice
    assert str(path.parent) not in str(fault.value)
    assert "." not in path.name or path.name not in str(fault.value)


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("name", ["a.nii", "a.nrrd"])
def test_every_order_of_axes_gives_the_same_anatomy(tmp_path, name, axes):
    place = straight(turn=axes_direction(axes))
    values = body(place)
    write(tmp_path / name, values, place)
    read = read_scan(tmp_path / name, MANY)
    assert_in_place(read.image)
    assert (read.repairs, read.padding_hu) == ((), None)
    got = sitk.GetArrayFromImage(read.image)
    assert got.dtype == np.int16
    np.testing.assert_array_equal(np.sort(got, None), np.sort(values, None))


@pytest.mark.parametrize("axes", ["LPS", "RIA"])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha", "a.mhd", "a.nhdr"])
def test_every_format_gives_the_same_anatomy(tmp_path, name, axes):
    place = straight(turn=axes_direction(axes))
    write(tmp_path / name, body(place), place)
    read = read_scan(tmp_path / name, MANY)
    assert_in_place(read.image)
    assert read.repairs == ()
    assert read.about["size"] == list(read.image.GetSize())


@pytest.mark.parametrize("space", ["left-posterior-superior", "right-anterior-superior", "LAS"])
@pytest.mark.parametrize("axes", ["LPS", "SAR"])
def test_an_nrrd_space_says_which_way_is_left(tmp_path, space, axes):
    place = straight(turn=axes_direction(axes))
    write_nrrd(tmp_path / "a.nrrd", body(place), place, space)
    assert_in_place(read_scan(tmp_path / "a.nrrd", MANY).image)


ANGLES = st.floats(-0.4, 0.4)


@settings(max_examples=8, deadline=None)
@given(x=ANGLES, y=ANGLES, z=ANGLES, axes=st.sampled_from(AXES), thick=st.sampled_from([0.7, 2.0, 6.5]))
def test_oblique_scans_of_any_spacing_stay_in_place(tmp_path_factory, x, y, z, axes, thick):
    turned = sitk.Euler3DTransform()
    turned.SetRotation(x, y, z)
    matrix = np.array(turned.GetMatrix()).reshape(3, 3) @ axes_direction(axes)
    size = (46, 44, round(264 / thick))
    place = straight(size, (5.0, 5.5, thick), turn=matrix)
    for name in ("a.nii", "a.nrrd"):
        path = tmp_path_factory.mktemp("oblique") / name
        write(path, body(place, size), place)
        assert_in_place(read_scan(path, MANY).image)


@pytest.mark.parametrize(
    ("dtype", "slope", "inter", "got"),
    [
        (np.int16, 1, 0, np.int16),
        (np.uint16, 1, -1024, np.int16),
        (np.int16, 2, -1024, np.int16),
        (np.int32, 1, 0, np.int16),
        (np.int16, 0.5, -24, np.float32),
        (np.float32, 1, 0, np.float32),
        (np.float64, 1, -1000, np.float32),
        (">i2", 1, -1024, np.int16),
        (np.int16, 0, 7, np.int16),  # a slope of 0 means none
    ],
)
def test_nifti_slope_and_intercept_are_applied_once(tmp_path, dtype, slope, inter, got):
    even = HU // 2 * 2
    stored = even if slope == 0 else np.clip((even - inter) / slope, 0 if dtype is np.uint16 else None, None)
    image = nibabel.Nifti1Image(stored.astype(dtype).transpose(2, 1, 0), affine_of(STRAIGHT))
    image.header.set_slope_inter(1, 0)
    path = tmp_path / "a.nii"
    nibabel.save(image, path)
    raw = bytearray(path.read_bytes())
    byte_order = image.header.endianness
    raw[112:120] = np.array([slope, inter], f"{byte_order}f4").tobytes()  # scl_slope, scl_inter
    path.write_bytes(raw)
    values = sitk.GetArrayFromImage(read_scan(path, MANY).image)
    assert values.dtype == got
    np.testing.assert_array_equal(values, np.maximum(even, -1024) if dtype is np.uint16 else even)


@pytest.mark.parametrize("name", ["a.nii", "a.nrrd"])
def test_rounded_directions_are_made_right(tmp_path, name):
    place = skewed(STRAIGHT, SIZE, np.array([[0, 0.004, 0], [0.0, 0, -0.006], [0.003, 0, 0]]))
    write(tmp_path / name, body(place), place)
    read = read_scan(tmp_path / name, MANY)
    assert_in_place(read.image)
    assert "not quite at right angles" in read.repairs[0]
    assert (read.padding_hu, read.resampled) == (None, False)


@pytest.mark.parametrize("name", ["a.nii", "a.nrrd"])
@pytest.mark.parametrize("axes", ["LPS", "RAS", "LAS"])
def test_a_tilt_in_the_directions_is_straightened(tmp_path, name, axes):
    place = skewed(straight(turn=axes_direction(axes)), SIZE, np.array([[0, 0, 0], [0, 0, 2.2], [0, 0, 0]]))
    write(tmp_path / name, body(place), place)
    read = read_scan(tmp_path / name, MANY)
    assert_in_place(read.image)
    assert "tilted by 20.1 degrees" in read.repairs[0]
    assert (read.padding_hu, read.resampled) == (PADDING_HU, True)


def without(path, field):
    """Nothing; takes a line out of a MetaImage header."""
    head, rest = path.read_bytes().split(field, 1)
    path.write_bytes(head + rest.split(b"\n", 1)[1])


@pytest.mark.parametrize("name", ["a.mha", "a.mhd"])
def test_a_mha_without_spacing_is_not_taken_for_millimetres(tmp_path, name):
    write_itk(tmp_path / name, HU, STRAIGHT)
    text = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(text.replace(b"ElementSpacing", b"ElementSize"))
    assert_in_place(read_scan(tmp_path / name, MANY).image)
    (tmp_path / name).write_bytes(text.replace(b"ElementSpacing", b"elementspacing"))  # ITK passes it over
    refused(tmp_path / name, "no ElementSpacing")
    (tmp_path / name).write_bytes(text)
    without(tmp_path / name, b"ElementSpacing")
    refused(tmp_path / name, "no ElementSpacing")


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_values_outlive_the_image_that_itk_read(tmp_path, name, dtype):
    write_itk(tmp_path / name, HU.astype(dtype), STRAIGHT)
    values = sitk.GetArrayFromImage(read_scan(tmp_path / name, MANY).image)
    assert values.dtype == (np.float32 if np.issubdtype(dtype, np.floating) else np.int16)
    np.testing.assert_array_equal(values, HU)


def written_raw(folder, name, dtype):
    """The file with the voxels; as ITK writes them when nothing is packed."""
    image = sitk.GetImageFromArray(HU.astype(dtype))
    image.SetSpacing(STRAIGHT.spacing_mm.tolist())
    sitk.WriteImage(image, str(folder / name), useCompression=False)
    beside = [path for path in folder.iterdir() if path.suffix == ".raw"]
    return beside[0] if beside else folder / name


@pytest.mark.parametrize("dtype", [np.int16, np.float64])
@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
def test_a_raw_file_that_lost_its_last_byte_is_damaged(tmp_path, name, dtype):
    voxels = written_raw(tmp_path, name, dtype)
    assert read_scan(tmp_path / name, MANY).repairs == ()
    voxels.write_bytes(voxels.read_bytes()[:-1])
    nbytes = HU.size * np.dtype(dtype).itemsize
    refused(tmp_path / name, f"it holds {nbytes - 1} bytes .* promises {nbytes}")


@pytest.mark.parametrize("name", ["a.b.c.nrrd", "a.b.c.mha", "a.b.c.nii.gz"])
def test_messages_about_relative_paths_keep_their_letters(tmp_path, monkeypatch, name):
    (tmp_path / "e").mkdir()
    for here in ("", "e/"):
        write_itk(tmp_path / here / name, HU, STRAIGHT)
        whole = (tmp_path / here / name).read_bytes()
        (tmp_path / here / name).write_bytes(whole[: len(whole) // 2])
    monkeypatch.chdir(tmp_path)
    texts = []
    for path in (Path(name), Path("e") / name, tmp_path / name):
        with pytest.raises(ScanError) as fault:
            read_scan(path, MANY)
        texts.append(fault.value.message)
        assert "No such file" not in texts[-1]
        assert str(tmp_path) not in texts[-1]
    assert len(set(texts)) == 1


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "scan"])
@pytest.mark.parametrize("fault", [PermissionError(errno.EACCES, "Permission denied"), IsADirectoryError()])
def test_a_file_that_cannot_be_opened_excludes_the_scan(tmp_path, monkeypatch, name, fault):
    opening(tmp_path / name, fault, monkeypatch)
    refused(tmp_path / name, "the image cannot be opened")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "scan"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_fault_of_the_machine_is_not_the_scans(tmp_path, monkeypatch, name, number):
    opening(tmp_path / name, OSError(number, "broken"), monkeypatch)
    with pytest.raises(OSError, match="broken") as fault:
        read_scan(tmp_path / name, MANY)
    assert fault.value.errno == number
    assert not isinstance(fault.value, ScanError)


def opening(path, fault, monkeypatch):
    """Nothing; writes a scan, and makes opening its files raise a fault."""
    if path.suffix:
        write(path, HU, STRAIGHT)
    else:
        write_slices(path, HU[:1], STRAIGHT)

    def failing(*_):
        raise fault

    monkeypatch.setattr(Path, "open", failing)


def test_padding_comes_back_as_one_value(tmp_path):
    hu = HU.copy()
    hu[:, :2], hu[:, :, :2] = -3024, -8192
    write_nifti(tmp_path / "a.nii", hu, STRAIGHT)
    read = read_scan(tmp_path / "a.nii", MANY)
    values = sitk.GetArrayFromImage(read.image)
    assert read.padding_hu == PADDING_HU
    np.testing.assert_array_equal(values == PADDING_HU, hu < -1500)
    assert [text.split("voxels hold ")[1][:5] for text in read.repairs] == ["-8192", "-3024"]


def test_labels_come_back_in_place_and_unmixed(tmp_path):
    place = skewed(straight(turn=axes_direction("LAS")), SIZE, np.array([[0, 0, 0], [0, 0, 2.2], [0, 0, 0]]))
    labels = np.where(body(place) > 350, 600, 0).astype(np.float32)
    write(tmp_path / "mask.nii.gz", labels, place)
    image = read_labels(tmp_path / "mask.nii.gz", MANY)
    assert_in_place(image)
    assert image.GetPixelIDTypeAsString() == "16-bit signed integer"
    assert set(np.unique(sitk.GetArrayFromImage(image))) == {0, 600}


def test_probabilities_are_no_labels(tmp_path):
    write(tmp_path / "mask.nii", np.full(HU.shape, 0.5, np.float32), STRAIGHT)
    refused(tmp_path / "mask.nii", "no whole numbers", read_labels)
    refused(tmp_path, "is a folder", read_labels)


def test_a_large_promise_takes_no_memory(tmp_path, monkeypatch):
    write_nifti(tmp_path / "a.nii.gz", HU, STRAIGHT)
    write_nrrd(tmp_path / "a.nrrd", HU, STRAIGHT)
    monkeypatch.setattr(np, "empty", None)
    monkeypatch.setattr(sitk.ImageFileReader, "Execute", None)
    for name in ("a.nii.gz", "a.nrrd"):
        refused(tmp_path / name, "max_voxels", max_voxels=HU.size - 1)
