"""Reading a scan or a mask in any common format, as one SimpleITK image that can be trusted.

Formats differ in what they promise; what a Reading promises is always the same: values in HU, rescaled once,
on axes at right angles in the order they are stored, and a sentence for each thing that had to be mended.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctssl.errors import ScanError
from ctssl.prepare.dicom import is_dicom, read_dicom
from ctssl.prepare.geometry import Place, Stored, check_place, straighten, to_image
from ctssl.prepare.hounsfield import PADDING_HU, rescaled, to_hu
from ctssl.prepare.nifti import read_nifti

_FORMATS = "NIfTI (.nii, .nii.gz), NRRD, MHA/MHD or a folder of DICOM slices"
_NRRD, _META = (".nrrd", ".nhdr"), (".mha", ".mhd")
_MAX_HEADER = 1 << 16
_MAX_DEFLATION = 1040  # zlib never packs tighter


@dataclass(frozen=True)
class Reading:
    """A scan as it was read.

    Attributes:
        image: SimpleITK image, 3-D, one HU value a voxel (int16 where the file holds integers, else float32),
            orthonormal direction, along the axes as they are stored.
        repairs: one sentence for each thing that was mended.
        padding_hu: voxels of `image` at this value were not seen by the scanner; None when all were.
        about: format, size and spacing_mm (along the image's own x, y, z), and for DICOM series_uid, kernel,
            slice_thickness_mm, scanner where they are known. Nothing else leaves a header.
    """

    image: Any
    repairs: tuple[str, ...]
    padding_hu: float | None
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
    unseen = values.shape != hu.values.shape  # straightened: the corners are padding
    return Reading(
        image,
        stored.repairs + hu.repairs + mended,
        float(PADDING_HU) if unseen else hu.padding_hu,
        about,
    )


def read_labels(path: Path, max_voxels: int) -> Any:
    """The SimpleITK image of a mask: int16, orthonormal direction, along the axes as they are stored.

    Raises:
        ScanError: as `read_scan`, or values that are no whole numbers.
    """
    if path.is_dir():
        raise ScanError(f"the mask {path.name} is a folder", "give the mask as NIfTI, NRRD or MHA/MHD")
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
    if not path.exists():
        raise ScanError(
            f"the image {path.name} does not exist", "correct the path in scans.csv or restore the file"
        )
    if path.is_dir():
        return read_dicom(path, max_voxels, series_uid)
    if series_uid is not None:
        raise ScanError(
            f"a series_uid is given, but {path.name} is a file",
            "leave series_uid empty, or give the DICOM folder",
        )
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return read_nifti(path, max_voxels)
    if name.endswith(_NRRD + _META):
        return _read_itk(path, max_voxels)
    if is_dicom(path):
        raise ScanError("the image is one DICOM file, a scan is a folder of them", "give the folder")
    raise ScanError(f"the image cannot be read: {path.name} has no known ending", f"give {_FORMATS}")


def _read_itk(path: Path, max_voxels: int) -> Stored:
    """What an NRRD or MHA/MHD file holds."""
    import SimpleITK as sitk

    nrrd = path.name.lower().endswith(_NRRD)
    fields = _fields(path)
    repairs = _orientation(fields, nrrd)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        place = _place(reader)
        check_place(reader.GetSize(), place, max_voxels)
        _check_bytes(path, fields, int(np.prod(reader.GetSize(), dtype=np.int64)))
        image = reader.Execute()
    except RuntimeError as error:
        raise _unreadable(error, path) from error
    values = rescaled(sitk.GetArrayFromImage(image), 1, 0)
    return Stored(values, place, repairs, False, {"format": "NRRD" if nrrd else "MetaImage"})


def _place(reader: Any) -> Place:
    """Where the voxels lie, by a header that SimpleITK read."""
    size, components = reader.GetSize(), reader.GetNumberOfComponents()
    if len(size) != 3 or components != 1:
        raise ScanError(
            f"the image has {len(size)} dimensions and {components} values a voxel, a scan has 3 and 1",
            "give one CT volume",
        )
    directions = np.array(reader.GetDirection()).reshape(3, 3)
    return Place(np.array(reader.GetOrigin()), directions * np.array(reader.GetSpacing()))


def _fields(path: Path) -> dict[str, str]:
    """The lines of an NRRD or MetaImage header: field in small letters -> value."""
    with path.open("rb") as file:
        head = file.read(_MAX_HEADER).decode("latin-1").replace("\r\n", "\n")
    fields: dict[str, str] = {}
    for line in head.split("\n"):
        if not line.strip():
            break  # an NRRD header ends here
        name, found, value = line.partition("=" if ":" not in line.split("=")[0] else ":")
        if found and not line.startswith("#"):
            fields[name.strip().lower()] = value.strip()
        if name.strip().lower() == "elementdatafile":
            break
    return fields


def _orientation(fields: dict[str, str], nrrd: bool) -> tuple[str, ...]:
    """What is to be said about the orientation in a header.

    Raises:
        ScanError: an NRRD that does not say which way is left. MetaImage has a default.
    """
    known = (
        "left-posterior-superior",
        "lps",
        "right-anterior-superior",
        "ras",
        "left-anterior-superior",
        "las",
    )
    if nrrd and ("space directions" not in fields or fields.get("space", "").lower() not in known):
        raise ScanError(
            "the NRRD header does not say which way is left: it has no space, or no space directions",
            "export it again with its space and space directions (3D Slicer and ITK write them)",
        )
    if not nrrd and not {"transformmatrix", "orientation", "rotation"} & set(fields):
        return (
            "the header has no TransformMatrix: the axes run to the left, to the back and up, its default",
        )
    return ()


def _check_bytes(path: Path, fields: dict[str, str], voxels: int) -> None:
    """Nothing, when a file that holds its own voxels can hold so many. A wrong promise takes memory."""
    alone = (
        "data file" not in fields
        and "datafile" not in fields
        and fields.get("elementdatafile", "LOCAL") == "LOCAL"
    )
    raw = fields.get("encoding") == "raw" or fields.get("compresseddata", "").lower() == "false"
    if alone and path.stat().st_size * (1 if raw else _MAX_DEFLATION) < voxels:
        raise ScanError(
            f"the image file is damaged: it promises {voxels} voxels and has {path.stat().st_size} bytes",
            "copy or export it again",
        )


def _unreadable(error: RuntimeError, path: Path) -> ScanError:
    """The scan's fault, without the path that ITK puts into its messages."""
    reason = str(error).strip().splitlines()[-1].replace(str(path.parent), "").strip()
    return ScanError(f"the image cannot be read: {reason}", f"copy or export it again; give {_FORMATS}")
