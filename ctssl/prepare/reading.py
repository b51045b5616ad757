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
        resampled: whether straightening resampled the image: its voxels are no longer the file's.
        about: format, size and spacing_mm (along the image's own x, y, z), and for DICOM series_uid, kernel,
            slice_thickness_mm, scanner where they are known. Nothing else leaves a header.
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
    """What a file or folder holds. The machine's faults (disk, network) come through as they are."""
    try:
        return _opened(path, max_voxels, series_uid)
    except (PermissionError, FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise ScanError(
            f"the image {path.name} cannot be opened: {error.strerror or 'no permission, or not there'}",
            "give the right to read it, or correct the path in scans.csv",
        ) from error


def _opened(path: Path, max_voxels: int, series_uid: str | None) -> Stored:
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
    with path.open("rb") as file:  # the libraries below hide why they cannot
        if not file.read(1):
            raise ScanError(f"the image file is empty: {path.name}", "copy or export it again")
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
    fields, header_bytes = _fields(path, nrrd)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path.absolute()))
    try:
        reader.ReadImageInformation()
        repairs = _checked(fields, nrrd)
        place, size = _place(reader), reader.GetSize()
        check_place(size, place, max_voxels)
        itemsize = sitk.Image([1, 1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
        _check_bytes(path, fields, header_bytes, int(np.prod(size, dtype=np.int64)) * itemsize)
        image = reader.Execute()
    except RuntimeError as error:
        raise _unreadable(error, path) from error
    # a view: at most this image and one array of its values are there at a time. It dies with the image.
    values = rescaled(sitk.GetArrayViewFromImage(image), 1, 0)
    values = np.require(values, requirements=["OWNDATA", "WRITEABLE"])
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


def _fields(path: Path, nrrd: bool) -> tuple[dict[str, str], int]:
    """The lines of an NRRD or MetaImage header, field -> value, and how many bytes they are.

    NRRD's fields are in small letters; MetaImage knows its fields only as it writes them.
    """
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while file.tell() < _MAX_HEADER and (raw := file.readline(_MAX_HEADER)):
            line = raw.decode("latin-1").strip()
            if nrrd and not line:
                break
            name, found, value = line.partition("=" if ":" not in line.split("=")[0] else ":")
            if found and not line.startswith("#"):
                fields[name.strip().lower() if nrrd else name.strip()] = value.removeprefix("=").strip()
            if "ElementDataFile" in fields:
                break
        return fields, file.tell()


def _checked(fields: dict[str, str], nrrd: bool) -> tuple[str, ...]:
    """What is to be said about the orientation in a header.

    Raises:
        ScanError: an NRRD that does not say which way is left (MetaImage has a default); a MetaImage that
            does not say how large its voxels are (ITK would take 1 mm).
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
    if not nrrd and not {"ElementSpacing", "ElementSize"} & set(fields):
        raise ScanError(
            "the header does not say how large the voxels are: it has no ElementSpacing",
            "add the line ElementSpacing = X Y Z, in mm, before ElementDataFile; or export the scan again",
        )
    if not nrrd and not {"TransformMatrix", "Orientation", "Rotation"} & set(fields):
        return (
            "the header has no TransformMatrix: the axes run to the left, to the back and up, its default",
        )
    return ()


def _check_bytes(path: Path, fields: dict[str, str], header_bytes: int, nbytes: int) -> None:
    """Nothing, when so many bytes of voxels can be in the file, or in the one beside it that it names.

    A wrong promise takes memory, and ITK's word on a file that ends too early is that there is none.

    Raises:
        ScanError: it is too short, or not there.
    """
    name = fields.get("data file") or fields.get("datafile") or fields.get("ElementDataFile") or "LOCAL"
    if name.upper() == "LOCAL":
        here, held = path, path.stat().st_size - header_bytes
    elif name.startswith("LIST") or "%" in name:
        return  # many files: ITK counts
    else:
        here = path.parent / name
        if not here.is_file():
            raise ScanError(
                f"the image cannot be read: its voxels are in the file {here.name}, which is not there",
                "copy that file too, into the folder of the header",
            )
        with here.open("rb") as file:
            held = file.seek(0, 2)
    most = held * (1 if _is_raw(fields) else _MAX_DEFLATION)
    if most < nbytes:
        raise ScanError(
            f"the image file is damaged: {here.name} holds {most} bytes of voxels at most, "
            f"the header promises {nbytes}",
            "copy or export it again",
        )


def _is_raw(fields: dict[str, str]) -> bool:
    """Whether voxels are stored byte by byte: neither packed nor as text."""
    if "encoding" in fields:
        return fields["encoding"].lower() == "raw"
    binary, packed = (fields.get(name, "").lower() for name in ("BinaryData", "CompressedData"))
    return binary.startswith(("t", "1")) and not packed.startswith(("t", "1"))


def _unreadable(error: RuntimeError, path: Path) -> ScanError:
    """The scan's fault, without the folder that ITK puts into its messages."""
    reason = str(error).strip().splitlines()[-1]
    if "No such file" in reason:  # ITK says so of any fault; the file was opened
        reason = "its header or its voxels are damaged"
    for known in (path.absolute(), path.resolve()):
        reason = reason.replace(str(known), path.name).replace(f"{known.parent}/", "")
    return ScanError(f"the image cannot be read: {reason}", f"copy or export it again; give {_FORMATS}")
