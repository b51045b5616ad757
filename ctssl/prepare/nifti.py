"""NIfTI files: voxels read once and in full, slope and intercept once, and which way is left.

nibabel reads the header. The voxels are read here, because ITK reads those that are missing, or NaN, as 0.
"""

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ctssl.errors import ScanError
from ctssl.prepare.geometry import Place, Stored, check_place
from ctssl.prepare.hounsfield import rescaled

_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # NIfTI's points are R-A-S
_UNIT_MM = {1: 1000.0, 3: 0.001}  # metres, microns; 2 is mm, 0 unknown and always mm
_CHUNK = 1 << 24
_MAX_DEFLATION = 1040  # gzip never packs tighter
_SAME_MM = 0.5


def read_nifti(path: Path, max_voxels: int) -> Stored:
    """What a .nii or .nii.gz holds.

    Raises:
        ScanError: damaged, without orientation, not a volume, or larger than `max_voxels`.
    """
    image = _load(path)
    stored = image.dataobj  # knows offset, slope and intercept, which nibabel takes out of the header
    size = _size(stored.shape)
    place, repairs = _place(image.header, size)
    check_place(size, place, max_voxels)
    if stored.dtype.fields or stored.dtype.kind not in "iuf":
        raise ScanError(
            "the image holds colours or complex numbers, a scan has one number a voxel", "give one CT volume"
        )
    voxels = _voxels(path, int(stored.offset), stored.dtype, size)
    values = rescaled(voxels, float(stored.slope), float(stored.inter))
    return Stored(values, place, repairs, False, {"format": "NIfTI"})


def _load(path: Path) -> Any:
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        image = nibabel.load(path)
    except (EOFError, OSError, zlib.error, ImageFileError, HeaderDataError, ValueError) as error:
        raise _damaged(error, path) from error
    if not isinstance(image, nibabel.Nifti1Pair):
        raise ScanError("the image cannot be read: it has no NIfTI header", "export it as NIfTI again")
    return image


def _size(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Voxels along i, j, k; a fourth dimension of one is none."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise ScanError(f"the image has {len(shape)} dimensions, a scan has 3", "give one CT volume")
    return int(shape[0]), int(shape[1]), int(shape[2])


def _place(header: Any, size: tuple[int, int, int]) -> tuple[Place, tuple[str, ...]]:
    """Where the voxels lie: by the sform, or without one by the qform."""
    from nibabel.spatialimages import HeaderDataError

    try:
        forms = {
            name: form
            for name in ("sform", "qform")
            if (form := getattr(header, f"get_{name}")(coded=True)[0]) is not None
        }
    except (HeaderDataError, ValueError) as error:
        raise ScanError(
            f"the NIfTI header's orientation is damaged: {error}", "export the scan again"
        ) from error
    if not forms:
        raise ScanError(
            "the NIfTI header does not say which way is left: sform_code and qform_code are both 0",
            "convert the original DICOM series again (dcm2niix), or, if you know that the stored orientation "
            "is right, say so: nifti_tool -mod_hdr -mod_field qform_code 1 -infiles IN -prefix OUT",
        )
    unit_mm = _UNIT_MM.get(int(header["xyzt_units"]) & 7, 1.0)
    repairs: tuple[str, ...] = ()
    if unit_mm != 1:
        repairs = (f"the header counts in units of {unit_mm:g} mm: turned into mm",)
    if len(forms) == 2:
        repairs += _agreement(forms["sform"], forms["qform"], size)
    affine = _TO_LPS @ next(iter(forms.values()))
    return Place(affine[:3, 3] * unit_mm, affine[:3, :3] * unit_mm), repairs


def _agreement(sform: np.ndarray, qform: np.ndarray, size: tuple[int, ...]) -> tuple[str, ...]:
    """What is to be said about two orientations of one image.

    Raises:
        ScanError: they name other axes; one of them swaps left and right, or front and back.
    """
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in size], [1])).reshape(4, -1)
    apart_mm = float(np.linalg.norm((sform - qform) @ corners, axis=0).max())
    if apart_mm <= _SAME_MM or not np.isfinite(apart_mm):  # lengths that are none are found later
        return ()
    import nibabel

    axes = ["".join(nibabel.aff2axcodes(form)) for form in (sform, qform)]
    if axes[0] != axes[1]:
        raise ScanError(
            f"the NIfTI header has two orientations that contradict: "
            f"axes {axes[0]} by the sform, {axes[1]} by the qform",
            "find out which is right, and set the code of the other to 0; or convert the DICOM series again",
        )
    return (f"sform and qform lie up to {apart_mm:.1f} mm apart: the sform is used",)


def _voxels(path: Path, offset: int, dtype: np.dtype, size: tuple[int, int, int]) -> np.ndarray:
    """(z, y, x) stored values.

    Raises:
        ScanError: the file ends before the last voxel, or its checksum is wrong.
    """
    nbytes = int(np.prod(size, dtype=np.int64)) * dtype.itemsize
    zipped = path.name.lower().endswith(".gz")
    most = path.stat().st_size * (_MAX_DEFLATION if zipped else 1)
    if most < nbytes:
        raise ScanError(
            f"the image file is damaged: it promises {nbytes} bytes of voxels and holds {most} at most",
            "copy or export it again",
        )
    voxels = np.empty(size[::-1], dtype)
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            file.seek(offset)
            _fill(voxels.reshape(-1).view(np.uint8).data, file)
            if zipped:
                file.read(1)  # at the end, gzip compares the checksum
    except (EOFError, OSError, zlib.error) as error:
        raise _damaged(error, path) from error
    return voxels


def _fill(buffer: memoryview, file: Any) -> None:
    done = 0
    while done < len(buffer):
        count = file.readinto(buffer[done : done + _CHUNK])
        if not count:
            raise EOFError(f"it ends after {done} of {len(buffer)} bytes of voxels")
        done += count


def _damaged(error: Exception, path: Path) -> Exception:
    """The error to raise: the scan's fault, or the machine's as it came."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    reason = (str(error).splitlines() or ["it is empty"])[0].replace(str(path), path.name)
    return ScanError(f"the image file is damaged: {reason}", "copy or export it again")
