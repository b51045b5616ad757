"""Reading a scan or a mask in any common format, as one SimpleITK image that can be trusted.

Formats differ in what they promise; what a Reading promises is always the same: values in HU, rescaled once,
on axes at right angles in the order they are stored, and a sentence for each thing that had to be mended.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctssl.errors import ScanError
from ctssl.log import hushed
from ctssl.prepare.dicom import is_dicom, read_dicom
from ctssl.prepare.geometry import Stored, straighten, to_image
from ctssl.prepare.hounsfield import PADDING_HU, to_hu
from ctssl.prepare.metaimage import read_metaimage
from ctssl.prepare.nifti import read_nifti
from ctssl.prepare.nrrd import read_nrrd
from ctssl.prepare.source import steadily

_FORMATS = "NIfTI (.nii, .nii.gz), NRRD, MHA/MHD or a folder of DICOM slices"
_OF_THE_SCAN = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM),
    *(errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO),
}
"""What the system says of a path that is wrong; all else it says is the machine's fault."""

_ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
_BEGINNINGS: dict[bytes, tuple[str, tuple[str, ...]]] = {
    b"NRRD": ("NRRD", (".nrrd", ".nhdr")),
    b"\x1f\x8b": ("a file packed by gzip", (".nii.gz",)),
    b"PK\x03\x04": ("a ZIP archive", ()),
}
"""First bytes -> what they tell, and the endings that go with it."""

_VOXEL_BYTES = 8  # the widest


@dataclass(frozen=True)
class Reading:
    """A scan as it was read.

    Attributes:
        image: SimpleITK image, 3-D, one HU value a voxel (int16 where the file holds integers, else float32),
            orthonormal direction, along the axes as they are stored.
        repairs: one sentence for each thing that was mended.
        padding_hu: voxels of `image` at this value were not seen by the scanner; None when all were.
        resampled: whether straightening resampled the image: its voxels are no longer the file's.
        about: format, size and spacing_mm (along the image's own x, y, z), and for DICOM kernel,
            slice_thickness_mm, scanner (its model) where they are known. Nothing else leaves a header.
    """

    image: Any
    repairs: tuple[str, ...]
    padding_hu: float | None
    resampled: bool
    about: dict[str, Any]


def read_scan(path: Path, max_voxels: int, series_uid: str | None = None) -> Reading:
    """A CT in Hounsfield units, and what had to be mended.

    Args:
        path: NIfTI, NRRD, MHA/MHD or a folder with DICOM slices at any depth.
        max_voxels: an image whose header promises more is refused before memory is taken.
        series_uid: of DICOM, the series to read; None: the largest CT series.

    Raises:
        ScanError: missing, damaged, not a volume, not HU; or its geometry cannot be known or mended.
    """
    stored = _stored(path, max_voxels, series_uid)
    hu = to_hu(stored.values, padding=stored.padding)
    values, place, mended = straighten(hu.values, stored.place, outside=PADDING_HU)
    image = to_image(values, place)
    about = {
        **stored.about,
        "size": list(image.GetSize()),
        "spacing_mm": [round(s, 4) for s in image.GetSpacing()],
    }
    resampled = values is not hu.values
    padding_hu = float(PADDING_HU) if resampled else hu.padding_hu  # straightened: the corners are padding
    return Reading(image, stored.repairs + hu.repairs + mended, padding_hu, resampled, about)


def read_labels(path: Path, max_voxels: int) -> Any:
    """The SimpleITK image of a mask: int16, orthonormal direction, along the axes as they are stored.

    Raises:
        ScanError: as `read_scan`, or values that are no whole numbers.
    """
    with _wrong_paths_excluded(path):
        folder = path.is_dir()
    if folder:
        raise ScanError("the mask is a folder", "give the mask as NIfTI, NRRD or MHA/MHD")
    stored = _stored(path, max_voxels, None)
    values = stored.values
    if values.dtype != np.int16:
        whole = all(np.array_equal(plane, np.rint(plane)) for plane in values)
        if not whole or values.min() < -32768 or values.max() > 32767:
            raise ScanError(
                "the mask holds values that are no whole numbers or beyond 16 bits",
                "give a mask of labels, one for each lung, and not a probability map",
            )
        values = values.astype(np.int16)
    values, place, _ = straighten(values, stored.place, outside=0, labels=True)
    return to_image(values, place)


def _stored(path: Path, max_voxels: int, series_uid: str | None) -> Stored:
    """What a file or folder holds. The machine's faults (disk, network) come through as they are."""
    with _wrong_paths_excluded(path), hushed():
        return steadily(path, lambda: _opened(path, max_voxels, series_uid), _VOXEL_BYTES * max_voxels)


@contextmanager
def _wrong_paths_excluded(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _OF_THE_SCAN and not isinstance(error, IsADirectoryError):
            error.filename = error.filename or str(path)  # the system's word on a read has none
            raise
        raise ScanError(
            f"the image cannot be opened: {error.strerror or 'it is a folder'}",
            "give the right to read it, or correct the path in scans.csv",
        ) from error


def _opened(path: Path, max_voxels: int, series_uid: str | None) -> Stored:
    if not path.exists():
        raise ScanError("the image does not exist", "correct its path in scans.csv or restore the file")
    if path.is_dir():
        return read_dicom(path, max_voxels, series_uid)
    if series_uid is not None:
        raise ScanError(
            "a series_uid is given, but the image is a file",
            "leave series_uid empty, or give the DICOM folder",
        )
    if not path.is_file():  # opening a pipe would wait for ever
        raise ScanError(
            "the image is no file and no folder but a pipe, a socket or a device",
            "correct its path in scans.csv",
        )
    name = path.name.lower()
    with path.open("rb") as file:
        _check_beginning(file.read(4), name)
    if name.endswith((".nii", ".nii.gz")):
        return read_nifti(path, max_voxels)
    if name.endswith((".nrrd", ".nhdr")):
        return read_nrrd(path, max_voxels)
    if name.endswith((".mha", ".mhd")):
        return read_metaimage(path, max_voxels)
    if is_dicom(path):
        raise ScanError("the image is one DICOM file, a scan is a folder of them", "give the folder")
    raise ScanError("the image cannot be read: its name has no known ending", f"give {_FORMATS}")


def _check_beginning(head: bytes, name: str) -> None:
    """Nothing, when a file that begins with `head` may have a name with this ending, in small letters."""
    if not head:
        raise ScanError("the image file is empty", "copy or export it again")
    if not name.endswith(_ENDINGS):
        return
    for mark, (what, endings) in _BEGINNINGS.items():
        if head.startswith(mark) and not name.endswith(endings):
            raise ScanError(
                f"the image's name has the ending of another format: it begins as {what}",
                f"give it the ending {endings[0]}" if endings else f"unpack it and give {_FORMATS}",
            )
