"""DICOM slices written by pydicom."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from ctssl.prepare.geometry import Place
from ctssl.prepare.grid import Grid


def write_series(folder: Path, hu: np.ndarray, grid: Grid, *, slope: float, intercept: float) -> None:
    """An array (z, y, x) on an LPS grid as slices whose names say nothing about their order."""
    place = Place(np.array(grid.origin_mm), np.eye(3) * grid.spacing_mm)
    write_slices(folder, hu, place, slopes=[slope] * len(hu), intercepts=[intercept] * len(hu))


def write_slices(
    folder: Path,
    hu: np.ndarray,
    place: Place,
    *,
    slopes: list[float] | None = None,
    intercepts: list[float] | None = None,
    prefix: str = "IM",
    **tags,
) -> str:
    """The series' UID; writes an array (z, y, x) at any place whose slices are at right angles.

    Args:
        slopes, intercepts: one of each for a slice; stored are the int16 values that they turn into HU.
        tags: of every slice, more or others.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series, study, frame = (generate_uid() for _ in range(3))
    names = np.random.default_rng(0).permutation(len(hu))
    for number, plane in enumerate(hu):
        slope = slopes[number] if slopes else 1
        intercept = intercepts[number] if intercepts else 0
        stored = np.rint((plane.astype(float) - intercept) / slope).astype(np.int16)
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        one.Modality, one.PatientID, one.PatientName = "CT", "phantom", "Nobody^Secret"
        one.InstanceNumber = int(names[number]) + 1
        one.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        one.ImagePositionPatient = [f"{x:.6f}" for x in place.origin_mm + number * place.steps_mm[:, 2]]
        one.ImageOrientationPatient = [f"{x:.8f}" for x in place.directions[:, :2].T.ravel()]
        across_mm, down_mm, between_mm = (float(s) for s in place.spacing_mm)
        one.PixelSpacing, one.SliceThickness = [f"{down_mm:.6f}", f"{across_mm:.6f}"], f"{between_mm:.4f}"
        one.RescaleSlope, one.RescaleIntercept = slope, intercept
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.Rows, one.Columns = plane.shape
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
        one.PixelData = stored.tobytes()
        for name, value in tags.items():
            setattr(one, name, value)
        pydicom.dcmwrite(folder / f"{prefix}{names[number]:04}", one)
    return series


def change(file: Path, **tags) -> None:
    """Nothing; gives one slice other tags, or deletes those that are None."""
    one = pydicom.dcmread(file)
    for name, value in tags.items():
        if value is None:
            delattr(one, name)
        else:
            setattr(one, name, value)
    one.save_as(file)


def height(file: Path) -> float:
    """z of a slice in mm."""
    return float(pydicom.dcmread(file, stop_before_pixels=True).ImagePositionPatient[2])
