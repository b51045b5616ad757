"""Whatever the format and however its axes are stored, anatomy comes back where it was."""

import errno
import gzip
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

from ctssl.errors import ScanError
from ctssl.prepare.geometry import Place
from ctssl.prepare.grid import axes_direction
from ctssl.prepare.hounsfield import PADDING_HU
from ctssl.prepare.reading import read_labels, read_scan

MANY = 10**8
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
STRAIGHT = straight()
HU = body(STRAIGHT)


def affine_of(place: Place) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = place.steps_mm, place.origin_mm
    return TO_RAS @ affine


def write_nifti(path, values, place, **header):
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0), affine_of(place))
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)


def write_itk(path, values, place):
    """By SimpleITK, which writes left-handed and sheared directions as they are."""
    image = sitk.GetImageFromArray(values)
    image.SetOrigin(place.origin_mm.tolist())
    image.SetSpacing(place.spacing_mm.tolist())
    image.SetDirection(place.directions.ravel().tolist())
    sitk.WriteImage(image, str(path), useCompression=True)


def write_nrrd(path, values, place, space="left-posterior-superior", fields=None):
    """By hand: no library decides what the header says."""
    signs = {"left-posterior-superior": (1, 1, 1), "right-anterior-superior": (-1, -1, 1), "LAS": (1, -1, 1)}
    steps, origin = place.steps_mm.T * signs[space], place.origin_mm * signs[space]
    lines = {
        "type": "short",
        "dimension": 3,
        "space": space,
        "sizes": " ".join(map(str, values.shape[::-1])),
        "space directions": " ".join("({:.8f},{:.8f},{:.8f})".format(*step) for step in steps),
        "endian": "little",
        "encoding": "raw",
        "space origin": "({:.8f},{:.8f},{:.8f})".format(*origin),
    } | (fields or {})
    text = "".join(f"{name}: {value}\n" for name, value in lines.items() if value is not None)
    path.write_bytes(b"NRRD0004\n" + text.encode() + b"\n" + values.astype("<i2").tobytes())


def write(path, values, place):
    (write_nifti if ".nii" in path.name else write_itk)(path, values, place)


def refused(path, word, read=read_scan, max_voxels=MANY):
    with pytest.raises(ScanError, match=word) as fault:
        read(path, max_voxels)
    assert fault.value.advice
    assert str(path.parent) not in str(fault.value)


def skewed(place: Place, change: np.ndarray) -> Place:
    """The same centre, other steps."""
    steps = place.steps_mm + change
    half = (np.array(SIZE) - 1) / 2
    return Place(place.origin_mm + (place.steps_mm - steps) @ half, steps)


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


def test_a_fourth_dimension_of_one_is_none(tmp_path):
    image = nibabel.Nifti1Image(HU.transpose(2, 1, 0)[..., None], affine_of(STRAIGHT))
    nibabel.save(image, tmp_path / "a.nii")
    assert_in_place(read_scan(tmp_path / "a.nii", MANY).image)


def test_a_nifti_in_metres_that_says_so_is_read(tmp_path):
    metres = Place(STRAIGHT.origin_mm / 1000, STRAIGHT.steps_mm / 1000)
    write_nifti(tmp_path / "a.nii", HU, metres, xyzt_units=1)
    read = read_scan(tmp_path / "a.nii", MANY)
    assert_in_place(read.image)
    assert read.repairs == ("the header counts in units of 1000 mm: turned into mm",)


def two_forms(path, other: np.ndarray):
    image = nibabel.Nifti1Image(HU.transpose(2, 1, 0), affine_of(STRAIGHT))
    image.set_sform(affine_of(STRAIGHT), 1)
    image.set_qform(other, 1)
    nibabel.save(image, path)


def test_two_orientations_of_a_nifti_that_differ(tmp_path):
    path = tmp_path / "a.nii"
    same = affine_of(STRAIGHT)
    two_forms(path, same)
    assert read_scan(path, MANY).repairs == ()
    moved = same.copy()
    moved[0, 3] += 7.5
    two_forms(path, moved)
    read = read_scan(path, MANY)
    assert_in_place(read.image)
    assert read.repairs == ("sform and qform lie up to 7.5 mm apart: the sform is used",)
    two_forms(path, np.diag([-1.0, 1, 1, 1]) @ same)
    refused(path, "contradict: axes LPS by the sform, axes RPS by the qform|axes LPS by the sform, RPS")


def test_only_a_qform_is_enough(tmp_path):
    image = nibabel.Nifti1Image(HU.transpose(2, 1, 0), affine_of(STRAIGHT))
    image.set_qform(affine_of(STRAIGHT), 1)
    image.set_sform(None, 0)
    nibabel.save(image, tmp_path / "a.nii")
    assert_in_place(read_scan(tmp_path / "a.nii", MANY).image)


@pytest.mark.parametrize("name", ["a.nii", "a.nrrd"])
def test_rounded_directions_are_made_right(tmp_path, name):
    place = skewed(STRAIGHT, np.array([[0, 0.004, 0], [0.0, 0, -0.006], [0.003, 0, 0]]))
    write(tmp_path / name, body(place), place)
    read = read_scan(tmp_path / name, MANY)
    assert_in_place(read.image)
    assert "not quite at right angles" in read.repairs[0]
    assert (read.padding_hu, read.resampled) == (None, False)


@pytest.mark.parametrize("name", ["a.nii", "a.nrrd"])
@pytest.mark.parametrize("axes", ["LPS", "RAS", "LAS"])
def test_a_tilt_in_the_directions_is_straightened(tmp_path, name, axes):
    place = skewed(straight(turn=axes_direction(axes)), np.array([[0, 0, 0], [0, 0, 2.2], [0, 0, 0]]))
    write(tmp_path / name, body(place), place)
    read = read_scan(tmp_path / name, MANY)
    assert_in_place(read.image)
    assert "tilted by 20.1 degrees" in read.repairs[0]
    assert (read.padding_hu, read.resampled) == (PADDING_HU, True)


def test_a_mha_without_directions_runs_along_lps_and_says_so(tmp_path):
    path = tmp_path / "a.mha"
    write_itk(path, HU, STRAIGHT)
    without(path, b"TransformMatrix")
    read = read_scan(path, MANY)
    assert_in_place(read.image)
    assert "TransformMatrix" in read.repairs[0]


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
    refused(tmp_path / name, f"{voxels.name} holds {nbytes - 1} bytes .* promises {nbytes}")


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
    refused(tmp_path / name, f"the image {name} cannot be opened")


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
    place = skewed(straight(turn=axes_direction("LAS")), np.array([[0, 0, 0], [0, 0, 2.2], [0, 0, 0]]))
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


def bad_files():
    """Name -> (what makes the file, a word of the message)."""

    def cut(path):
        write(path, HU, STRAIGHT)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def flipped(path):
        write(path, HU, STRAIGHT)
        raw = bytearray(path.read_bytes())
        raw[-6] ^= 255  # of the checksum
        path.write_bytes(raw)

    def headless(path):
        write(path, HU, STRAIGHT)
        for data in path.parent.glob("*raw*"):
            data.unlink()

    def nan(path):
        values = HU.astype(np.float32)
        values[3, 5, 7] = np.nan
        write(path, values, STRAIGHT)

    def placed(place):
        return lambda path: write(path, HU, place)

    def header(**fields):
        return lambda path: write_nifti(path, HU, STRAIGHT, **fields)

    def nrrd(**fields):
        return lambda path: write_nrrd(path, HU, STRAIGHT, fields=fields)

    def codeless(path):
        image = nibabel.Nifti1Image(HU.transpose(2, 1, 0), affine_of(STRAIGHT))
        image.set_sform(None, 0)
        image.set_qform(None, 0)
        nibabel.save(image, path)

    def colour(path):
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros((20, 20, 20, 3), np.uint8), isVector=True), str(path))

    def patched(offset, values):
        def make(path):
            write(path, HU, STRAIGHT)
            raw = bytearray(path.read_bytes())
            raw[offset : offset + values.nbytes] = values.tobytes()
            path.write_bytes(raw)

        return make

    thousandth = Place(STRAIGHT.origin_mm / 1000, STRAIGHT.steps_mm / 1000)
    thousandfold = Place(STRAIGHT.origin_mm * 1000, STRAIGHT.steps_mm * 1000)
    crooked = skewed(STRAIGHT, np.array([[0, 2.0, 1.5], [0, 0, 2.0], [0, 0, 0]]))
    steep = skewed(STRAIGHT, np.array([[0, 0, 0], [0, 0, 5.0], [0, 0, 0]]))
    return {
        "missing.nii": (lambda _: None, "does not exist"),
        "a.jpg": (lambda path: path.write_text("no image"), "no known ending"),
        "empty.nii.gz": (empty := (lambda path: path.write_bytes(b"")), "the image file is empty"),
        "empty.nrrd": (empty, "the image file is empty"),
        "empty.mha": (empty, "the image file is empty"),
        "text.nrrd": (text := (lambda path: path.write_text("no image")), "cannot be read"),
        "text.mha": (text, "cannot be read"),
        "text.nii.gz": (text, "damaged"),
        "text.nii": (text, "damaged"),
        "zipped-text.nii.gz": (lambda path: path.write_bytes(gzip.compress(b"no image")), "damaged"),
        "half.nii": (cut, "damaged"),
        "half.nii.gz": (cut, "damaged"),
        "flipped.nii.gz": (flipped, "damaged"),
        "half.nrrd": (cut, "cannot be read"),
        "half.mha": (cut, "cannot be read"),
        "headless.mhd": (headless, "headless.zraw, which is not there"),
        "headless.nhdr": (headless, "cannot be read: .* open .headless.raw.gz"),
        "flat.nii": (lambda path: write_nifti(path, HU[:1], STRAIGHT), "only 1 voxels"),
        "film.nii": (
            lambda path: nibabel.save(nibabel.Nifti1Image(np.zeros((9, 9, 9, 2), np.int16), np.eye(4)), path),
            "4 dimensions",
        ),
        "colour.mha": (colour, "3 values"),
        "colour.nii": (colour, "dimensions|colours"),
        "thin.nii": (placed_thin := (lambda path: write(path, HU[:7], STRAIGHT)), "only 7 voxels"),
        "thin.mha": (placed_thin, "only 7 voxels"),
        "nan.nii": (nan, "not finite"),
        "nan.nii.gz": (nan, "not finite"),
        "nan.mha": (nan, "replace what is not measured by -1024"),
        "codeless.nii": (codeless, "which way is left"),
        "crooked.nii": (placed(crooked), "at right angles"),
        "crooked.nrrd": (placed(crooked), "at right angles"),
        "steep.nii": (placed(steep), "no gantry tilts more"),
        "metres.nii": (placed(thousandth), "in metres or centimetres"),
        "metres.nrrd": (placed(thousandth), "in metres or centimetres"),
        "microns.nrrd": (placed(thousandfold), "is it in mm"),
        "unit.nii": (header(xyzt_units=1), "is it in mm"),
        "zero.nii": (patched(280, np.zeros(12, "<f4")), "three lengths above 0"),  # the rows of the sform
        "nan-place.nii": (patched(284, np.full(1, np.nan, "<f4")), "three lengths above 0"),
        "nospace.nrrd": (nrrd(**{"space directions": None, "space origin": None}), "which way is left"),
        "oldspace.nrrd": (nrrd(**{"space": "3D-right-handed"}), "which way is left"),
        "huge.nrrd": (nrrd(sizes="40000 40000 40000"), "max_voxels"),
        "promising.nii": (patched(42, np.array([400, 400, 500], "<i2")), "promises 160000000 bytes"),
        "promising.nrrd": (nrrd(sizes="400 400 500"), "promises 160000000$|promises 160000000\n"),
        "mr.nii": (lambda path: write(path, (HU + 1100) // 3, STRAIGHT), "no air"),
    }


@pytest.mark.parametrize("name", bad_files())
def test_a_bad_file_excludes_the_scan_with_advice(tmp_path, name):
    make, word = bad_files()[name]
    make(tmp_path / name)
    refused(tmp_path / name, word)


def test_a_large_promise_takes_no_memory(tmp_path, monkeypatch):
    write_nifti(tmp_path / "a.nii.gz", HU, STRAIGHT)
    write_nrrd(tmp_path / "a.nrrd", HU, STRAIGHT)
    monkeypatch.setattr(np, "empty", None)
    monkeypatch.setattr(sitk.ImageFileReader, "Execute", None)
    for name in ("a.nii.gz", "a.nrrd"):
        refused(tmp_path / name, "max_voxels", max_voxels=HU.size - 1)


def test_a_series_uid_goes_with_a_folder(tmp_path):
    write_nifti(tmp_path / "a.nii", HU, STRAIGHT)
    with pytest.raises(ScanError, match="series_uid"):
        read_scan(tmp_path / "a.nii", MANY, "1.2.3")
