"""The slices of a DICOM folder in their order, when together they are a volume."""

from pathlib import Path

import numpy as np

from ctssl.errors import ScanError

_GAP_MM = 0.1  # positions are written with few digits
_TILT_MM = 0.5


def slices(folder: Path) -> list[str]:
    """Files of the series with most slices, sorted by position.

    Raises:
        ScanError: no series, or slices that are missing, doubled or shifted (a tilted gantry): reading
            them as a volume would stretch or shear the anatomy without a word.
    """
    import SimpleITK as sitk

    ids = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    series = [list(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), i)) for i in ids]
    if not series:
        raise ScanError(
            f"the folder {folder.name} holds no DICOM series",
            "name the folder that holds the slices themselves",
        )
    files = max(series, key=len)
    _check_steps(*_places(files))
    return files


def _places(files: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(S, 3) positions x, y, z in LPS mm of the slices' first voxels, and (3,) the slices' normal."""
    import pydicom

    tags = ["ImagePositionPatient", "ImageOrientationPatient"]
    headers = [pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags) for file in files]
    if not all(tag in header for header in headers for tag in tags):
        raise ScanError("the DICOM slices do not say where they lie", "export the original axial CT series")
    across, down = np.array(headers[0].ImageOrientationPatient, float).reshape(2, 3)
    return np.array([h.ImagePositionPatient for h in headers], float), np.cross(across, down)


def _check_steps(positions: np.ndarray, normal: np.ndarray) -> None:
    steps = np.diff(positions, axis=0)
    if not len(steps):
        return
    along = steps @ normal
    usual = float(np.median(along))
    uneven = np.abs(along - usual) > _GAP_MM
    if uneven.any():
        raise ScanError(
            f"{int(uneven.sum())} of {len(steps)} distances between DICOM slices are not {usual:.2f} mm but "
            f"{along[uneven].min():.2f} to {along[uneven].max():.2f} mm: slices are missing or doubled",
            "export the series again, complete and alone in its folder",
        )
    drift = float(np.linalg.norm(steps - along[:, None] * normal, axis=1).max())
    if drift > _TILT_MM:
        raise ScanError(
            f"each DICOM slice is shifted by {drift:.2f} mm against the one before: the gantry was tilted",
            "straighten the scan when converting it (dcm2niix does), and give the NIfTI file",
        )
