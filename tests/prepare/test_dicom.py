"""A DICOM folder is a volume only when its slices say so."""

import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from prepare.balls import SIZE, assert_in_place, body, straight
from prepare.dicom import change, height, write_slices

from ctssl.errors import ScanError
from ctssl.prepare.geometry import Place
from ctssl.prepare.hounsfield import PADDING_HU
from ctssl.prepare.reading import read_scan

PLACE = straight()
HU = body(PLACE)
MANY = 10**8
FIRST = float(PLACE.origin_mm[2])
ROWS = {
    "head first, up": (1, 1, 1),
    "slices listed from above": (1, 1, -1),
    "prone": (-1, -1, 1),
    "feet first": (-1, 1, -1),
    "mirrored": (-1, 1, 1),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("dicom") / "scan"
    write_slices(path, HU, PLACE)
    return path


@pytest.fixture
def folder(tmp_path, written):
    return shutil.copytree(written, tmp_path / "scan")


def refused(folder, word, series_uid=None):
    with pytest.raises(ScanError, match=word) as fault:
        read_scan(folder, MANY, series_uid)
    assert fault.value.advice
    assert "Secret" not in str(fault.value)
    assert str(folder.parent) not in str(fault.value)
    return fault.value


def at(folder, number):
    """The slice with this place in the volume."""
    return next(f for f in folder.iterdir() if abs(height(f) - FIRST - 6 * number) < 0.01)


@pytest.mark.parametrize("signs", ROWS.values(), ids=ROWS)
def test_every_way_of_lying_and_of_scanning_is_read(tmp_path, signs):
    place = straight(turn=np.diag(signs).astype(float))
    hu = body(place)
    write_slices(tmp_path / "scan", hu, place)
    read = read_scan(tmp_path / "scan", MANY)
    assert_in_place(read.image)
    assert read.repairs == ()
    assert read.padding_hu is None
    np.testing.assert_array_equal(np.sort(sitk.GetArrayFromImage(read.image), None), np.sort(hu, None))


def test_coronal_slices_are_read(tmp_path):
    turn = np.array(
        [[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]
    )  # rows to the left, columns down, slices to the back
    write_slices(tmp_path / "scan", body(straight(turn=turn)), straight(turn=turn))
    assert_in_place(read_scan(tmp_path / "scan", MANY).image)


@pytest.mark.parametrize(
    ("slopes", "intercepts", "dtype"),
    [
        ([1] * 44, [-1024] * 44, np.int16),
        ([1, 2] * 22, [-1024, 10] * 22, np.int16),
        ([1] * 20 + [0.5] * 24, [-1000] * 44, np.float32),
    ],
)
def test_each_slice_has_its_own_slope_and_intercept_once(tmp_path, slopes, intercepts, dtype):
    write_slices(tmp_path / "scan", HU // 2 * 2, PLACE, slopes=slopes, intercepts=intercepts)
    read = sitk.GetArrayFromImage(read_scan(tmp_path / "scan", MANY).image)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, HU // 2 * 2)


def test_small_jitter_of_positions_is_taken_as_even(folder):
    rng = np.random.default_rng(3)
    for file in folder.iterdir():
        x, y, z = map(float, pydicom.dcmread(file).ImagePositionPatient)
        change(file, ImagePositionPatient=[x, y, round(z + rng.uniform(-0.2, 0.2), 3)])
    read = read_scan(folder, MANY)
    assert_in_place(read.image)
    assert "off equal distances of 6.0" in read.repairs[0]


@pytest.mark.parametrize("tilt_deg", [-18.0, 4.0, 25.0])
def test_a_tilted_gantry_is_straightened(tmp_path, tilt_deg):
    """Slices are tilted about x; the table moves them along z, as in a scanner."""
    c, s = np.cos(np.radians(tilt_deg)), np.sin(np.radians(tilt_deg))
    steps = np.array([[1, 0, 0], [0, c, 0], [0, s, 1.0]]) * [5, 5, 6]
    place = Place(-steps @ (np.array(SIZE) - 1) / 2, steps)
    write_slices(tmp_path / "scan", body(place), place)
    read = read_scan(tmp_path / "scan", MANY)
    assert_in_place(read.image)
    assert f"tilted by {abs(tilt_deg):.1f} degrees" in read.repairs[-1]
    assert (read.padding_hu, read.resampled) == (PADDING_HU, True)
    assert 0.05 < (sitk.GetArrayFromImage(read.image) == PADDING_HU).mean() < 0.6


@pytest.mark.parametrize(
    ("tag", "value", "word"),
    [
        ("PixelSpacing", "2.5", "do not say where they lie"),
        ("PixelSpacing", ["2.5", "2.5", "2.5"], "do not say where they lie"),
        ("PixelSpacing", "", "do not say where they lie"),
        ("PixelSpacing", ["5", "-5"], "PixelSpacing 5, -5"),
        ("PixelSpacing", ["5", "0"], "PixelSpacing 5, 0"),
        ("ImagePositionPatient", ["0", "0"], "do not say where they lie"),
        ("ImagePositionPatient", ["0", "0", "nan"], "ImagePositionPatient 0, 0, nan"),
        ("ImageOrientationPatient", ["1", "0", "0"], "do not say where they lie"),
        ("ImageOrientationPatient", ["0"] * 6, "ImageOrientationPatient 0, 0, 0"),
        ("ImageOrientationPatient", ["1", "0", "0", "0.3", "1", "0"], "ImageOrientationPatient 1, 0, 0, 0.3"),
        ("ImageOrientationPatient", ["1", "0", "0", "0", "0.9", "0"], "two unit vectors at right angles"),
        ("ImageOrientationPatient", ["1", "0", "0", "0", "nan", "0"], "two unit vectors at right angles"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR DS")
def test_slices_whose_place_cannot_be_are_an_error(tmp_path, tag, value, word):
    write_slices(tmp_path / "scan", HU[:9], PLACE, **{tag: value})
    refused(tmp_path / "scan", word)


@pytest.mark.parametrize("which", [range(44), range(0, 44, 3)], ids=["all", "every third"])
def test_rounded_headers_are_one_stack(folder, which):
    """Different rounding in a third of the headers once lost a third of the chest."""
    for number in which:
        change(
            at(folder, number),
            PixelSpacing=["5.002", "4.999"],
            ImageOrientationPatient=["0.9998", "0.004", "0", "-0.004", "0.9998", "0"],
        )
    read = read_scan(folder, MANY)
    assert read.image.GetSize() == SIZE
    assert_in_place(read.image)
    assert read.repairs == ()


@pytest.mark.parametrize(
    "which", [[0], range(12), range(30, 44), range(1, 44, 3)], ids=["first", "below", "above", "between"]
)
def test_slices_of_another_spacing_that_continue_the_stack_are_an_error(folder, which):
    for number in which:
        change(at(folder, number), PixelSpacing=["4", "4"])
    word = f"{len(which)} of 44 images .* do not match them .* 36 x 40 voxels of 4, 4 mm, .* of 5, 5 mm"
    refused(folder, word)


def test_slices_of_another_direction_that_continue_the_stack_are_an_error(folder):
    for number in range(5):
        change(at(folder, number), ImageOrientationPatient=["0.9996", "0.03", "0", "-0.03", "0.9996", "0"])
    refused(folder, "5 of 44 images .* direction")


def test_images_of_another_spacing_elsewhere_are_left_out(folder):
    """At the places of other slices, or far from them: no anatomy is lost."""
    uid = pydicom.dcmread(at(folder, 0)).SeriesInstanceUID
    finer = Place(PLACE.origin_mm, PLACE.steps_mm * [0.5, 0.5, 1])
    away = Place(PLACE.origin_mm - [0, 0, 90], finer.steps_mm)
    for prefix, place in (("here", finer), ("away", away)):
        write_slices(folder, HU[:3], place, prefix=prefix, SeriesInstanceUID=uid)
    read = read_scan(folder, MANY)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read.image), HU)
    assert read.repairs[0].startswith("6 images of the series have another size, spacing or direction")


@pytest.mark.parametrize(
    "kind",
    [
        ["ORIGINAL", "PRIMARY", "LOCALIZER"],
        ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"],
        ["DERIVED", "PRIMARY", "MPR"],
        ["DERIVED", "SECONDARY", "OTHER", "CSA MPR"],
        ["DERIVED", "PRIMARY", "PROJECTION IMAGE", "MIP_Z"],
    ],
)
def test_scouts_and_reformats_are_passed_over(folder, kind):
    larger = straight(size=(*SIZE[:2], 60))
    write_slices(folder, body(larger, (*SIZE[:2], 60)), larger, prefix="reformat", ImageType=kind)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_scan(folder, MANY).image), HU)


def test_thin_reconstructions_called_derived_primary_are_originals(folder):
    larger = straight(size=(*SIZE[:2], 60))
    kind = ["DERIVED", "PRIMARY", "AXIAL"]
    write_slices(folder, body(larger, (*SIZE[:2], 60)), larger, prefix="thin", ImageType=kind)
    assert read_scan(folder, MANY).image.GetSize()[2] == 60


def test_scouts_within_the_series_are_left_out(folder):
    uid = pydicom.dcmread(at(folder, 0)).SeriesInstanceUID
    scout = straight(turn=np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]]))
    write_slices(folder, HU[:2], scout, prefix="a", SeriesInstanceUID=uid)  # not marked, but sagittal
    kind = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    write_slices(folder, HU[:1], PLACE, prefix="b", SeriesInstanceUID=uid, ImageType=kind)
    read = read_scan(folder, MANY)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read.image), HU)
    assert [text.split(" images")[0] for text in read.repairs] == ["1", "2"]


def test_two_series_of_one_size_need_a_choice(folder):
    first = pydicom.dcmread(at(folder, 0)).SeriesInstanceUID
    second = write_slices(folder, HU + 5, PLACE, prefix="sharp", ConvolutionKernel="B70f")
    fault = refused(folder, "2 CT series have 44 slices each")
    assert "44 images, CT, 6 mm; 44 images, CT, 6 mm, kernel B70f" in str(fault)
    assert "ctssl series" in fault.advice
    assert first not in str(fault)
    assert second not in str(fault)
    read = read_scan(folder, MANY, second)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read.image), HU + 5)
    assert read.about["kernel"] == "B70f"
    assert second not in str(read.about)


def test_a_derived_series_may_be_chosen(folder):
    thick = straight(spacing_mm=(5, 5, 6))
    kind = ["DERIVED", "SECONDARY", "MPR"]
    uid = write_slices(folder, HU + 3, thick, prefix="thick", ImageType=kind)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_scan(folder, MANY, uid).image), HU + 3)


def test_an_unknown_series_uid_lists_what_is_there(folder):
    uid = pydicom.dcmread(at(folder, 0)).SeriesInstanceUID
    fault = refused(
        folder, "holds no series with the given series_uid; it holds 44 images, CT, 6 mm\n", "1.2.3"
    )
    assert uid not in str(fault)
    assert "1.2.3" not in str(fault)


@pytest.mark.parametrize("padding", [63536, -2000])
def test_the_padding_value_of_the_header_is_respected(tmp_path, padding):
    hu = HU.copy()
    hu[:, :3] = -2000 - 24  # stored as -2000
    hu[20, 20, 20] = -1900  # no padding, only odd
    write_slices(tmp_path / "scan", hu, PLACE, intercepts=[-24] * 44)
    for file in (tmp_path / "scan").iterdir():
        one = pydicom.dcmread(file)
        one.add_new("PixelPaddingValue", "US" if padding > 0 else "SS", padding)
        one.save_as(file)
    read = read_scan(tmp_path / "scan", MANY)
    values = sitk.GetArrayFromImage(read.image)
    assert read.padding_hu == PADDING_HU
    assert (values[:, :3] == PADDING_HU).all()
    np.testing.assert_array_equal(values[:, 3:], hu[:, 3:])
    assert "padding" in read.repairs[0]


def test_a_padding_value_that_is_also_air_is_air(tmp_path):
    write_slices(tmp_path / "scan", HU, PLACE, PixelPaddingValue=-1000)
    read = read_scan(tmp_path / "scan", MANY)
    assert (read.padding_hu, read.repairs) == (None, ())
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read.image), HU)


def test_only_harmless_facts_leave_the_header(tmp_path):
    tags = {"Manufacturer": "Maker", "ManufacturerModelName": "One", "ConvolutionKernel": ["I50f", "3"]}
    write_slices(tmp_path / "scan", HU, PLACE, **tags)
    assert read_scan(tmp_path / "scan", MANY).about == {
        "format": "DICOM",
        "kernel": "I50f 3",
        "slice_thickness_mm": 6.0,
        "scanner": "One",
        "size": list(SIZE),
        "spacing_mm": [5.0, 5.0, 6.0],
    }


@pytest.mark.parametrize("number", [0, 20, 43])
def test_a_slice_whose_header_is_cut_is_an_error(folder, number):
    """Left out, the first or the last one would be missed by nobody."""
    file = at(folder, number)
    for tag in (b"\x20\x00\x0e\x00", b"\x08\x00\x16\x00"):  # the series, the class
        file.write_bytes(file.read_bytes().partition(tag)[0])
        refused(folder, "damaged: its header ends too early")


def test_max_voxels_are_counted_before_reading(folder, monkeypatch):
    monkeypatch.setattr(sitk, "ReadImage", None)
    with pytest.raises(ScanError, match="40 x 36 x 44"):
        read_scan(folder, 40 * 36 * 44 - 1)
