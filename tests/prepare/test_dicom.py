"""A DICOM folder is a volume only when its slices say so."""

import numpy as np
import pydicom
import pytest
from prepare.dicom import write_series

from ctssl.errors import ScanError
from ctssl.prepare.dicom import slices
from ctssl.prepare.grid import Grid


@pytest.fixture
def folder(tmp_path):
    hu = np.full((12, 10, 9), -700, np.int16)
    write_series(
        tmp_path / "scan", hu, Grid((-20.0, -30.0, 5.0), 3.0, (9, 10, 12), "LPS"), slope=1, intercept=0
    )
    return tmp_path / "scan"


def heights(files):
    return [float(pydicom.dcmread(f).ImagePositionPatient[2]) for f in files]


def change(file, **values):
    one = pydicom.dcmread(file)
    for name, value in values.items():
        setattr(one, name, value)
    one.save_as(file)


def test_slices_come_in_the_order_of_their_positions(folder):
    assert heights(slices(folder)) == [5.0 + 3 * i for i in range(12)]


def test_a_missing_slice_is_an_error(folder):
    next(f for f in folder.iterdir() if heights([f]) == [20.0]).unlink()
    with pytest.raises(ScanError, match=r"1 of 10 distances .* not 3.00 mm but 6.00 to 6.00") as fault:
        slices(folder)
    assert "complete" in fault.value.advice


def test_a_doubled_slice_is_an_error(folder):
    first, second = slices(folder)[4:6]
    change(second, ImagePositionPatient=pydicom.dcmread(first).ImagePositionPatient)
    with pytest.raises(ScanError, match="missing or doubled"):
        slices(folder)


def test_a_tilted_gantry_is_an_error(folder):
    for number, file in enumerate(slices(folder)):
        x, y, z = pydicom.dcmread(file).ImagePositionPatient
        change(file, ImagePositionPatient=[x, float(y) + 0.8 * number, z])
    with pytest.raises(ScanError, match=r"0.80 mm .* gantry was tilted"):
        slices(folder)


def test_slices_without_a_position_are_an_error(folder):
    for file in slices(folder):
        one = pydicom.dcmread(file)
        del one.ImagePositionPatient
        one.save_as(file)
    with pytest.raises(ScanError):
        slices(folder)


def test_the_largest_series_of_a_folder_is_read(folder):
    hu = np.full((8, 10, 9), -100, np.int16)
    write_series(folder / "other", hu, Grid((0.0, 0.0, 500.0), 3.0, (9, 10, 8), "LPS"), slope=1, intercept=0)
    for file in (folder / "other").iterdir():
        file.rename(folder / f"other{file.name}")
    assert heights(slices(folder)) == [5.0 + 3 * i for i in range(12)]
