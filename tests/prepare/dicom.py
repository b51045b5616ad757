"""DICOM slices written by pydicom."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from ctssl.prepare.grid import Grid


def write_series(folder: Path, hu: np.ndarray, grid: Grid, *, slope: float, intercept: float) -> None:
    """An array (z, y, x) on an LPS grid as slices whose names say nothing about their order."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = np.rint((hu - intercept) / slope).astype(np.int16)
    series, study, frame = (generate_uid() for _ in range(3))
    names = np.random.default_rng(0).permutation(len(hu))
    for number, plane in enumerate(stored):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        one.Modality, one.PatientID, one.InstanceNumber = "CT", "phantom", int(names[number]) + 1
        one.ImagePositionPatient = [*grid.origin_mm[:2], grid.origin_mm[2] + number * grid.spacing_mm]
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.PixelSpacing, one.SliceThickness = [grid.spacing_mm] * 2, grid.spacing_mm
        one.RescaleSlope, one.RescaleIntercept = slope, intercept
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.Rows, one.Columns = plane.shape
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
        one.PixelData = plane.tobytes()
        pydicom.dcmwrite(folder / f"IM{names[number]:04}", one)
