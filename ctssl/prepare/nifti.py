"""NIfTI files: voxels read once and in full, slope and intercept once, and which way is left.

nibabel reads the header. The voxels are read here, because ITK reads those that are missing, or NaN, as 0.
"""

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ctssl.errors import ScanError
from ctssl.prepare.fields import damaged
from ctssl.prepare.geometry import Place, Stored, check_place
from ctssl.prepare.hounsfield import rescaled
from ctssl.prepare.voxels import Block, Packing, read_voxels

_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # NIfTI's points are R-A-S
_UNIT_MM = {1: 1000.0, 3: 0.001}  # metres, microns; 2 is mm, 0 unknown and always mm
_SAME_MM = 0.5
_SAME_SPACING = 0.01  # of a length
_MAX_OFFSET = 1 << 26  # extensions that follow a header hold notes


def read_nifti(path: Path, max_voxels: int) -> Stored:
    """What a .nii or .nii.gz holds.

    Raises:
        ScanError: damaged, without orientation, not a volume, or larger than `max_voxels`.
    """
    header, raw = _header(path)
    size = _size(header.get_data_shape())
    place, repairs = _place(header, raw, size)
    check_place(size, place, max_voxels)
    dtype = header.get_data_dtype()
    if dtype.fields or dtype.kind not in "iuf":
        raise ScanError(
            "the image holds colours or complex numbers, a scan has one number a voxel", "give one CT volume"
        )
    slope, intercept = _scale(header)
    packing: Packing = "gzip" if path.name.lower().endswith(".gz") else "raw"
    voxels = read_voxels(Block(path, _offset(header), dtype, size, packing))
    return Stored(rescaled(voxels, slope, intercept), place, repairs, False, {"format": "NIfTI"})


def _header(path: Path) -> tuple[Any, Any]:
    """nibabel's header, and as it stands in the file: nibabel mends lengths that cannot be.

    Extensions that follow are not read: they may hold anything, and be of any size.
    """
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.spatialimages import HeaderDataError

    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            raw = file.read(Nifti2Header.sizeof_hdr)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise damaged("it ends too early or is not packed") from error
    kind = {b"n+1\0": Nifti1Header}.get(raw[344:348]) or {b"n+2\0": Nifti2Header}.get(raw[4:8])
    if kind is None or len(raw) < kind.sizeof_hdr:
        raise damaged("it is not that of a NIfTI file")
    try:
        return kind(raw[: kind.sizeof_hdr]), kind(raw[: kind.sizeof_hdr], check=False)
    except HeaderDataError as error:
        raise damaged("it holds what no NIfTI header holds") from error


def _offset(header: Any) -> int:
    """Bytes before the voxels."""
    offset = float(header["vox_offset"])
    if not header.sizeof_hdr <= offset <= _MAX_OFFSET:  # written so that it is true of NaN
        raise damaged("voxels would begin inside it, or far behind it")
    return int(offset)


def _scale(header: Any) -> tuple[float, float]:
    """Slope and intercept; a slope of 0, or one that is not finite, means none."""
    from nibabel.spatialimages import HeaderDataError

    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise damaged("the intercept is no number") from error
    return (1.0, 0.0) if slope is None else (slope, intercept)


def _size(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Voxels along i, j, k; a fourth dimension of one is none."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise ScanError(f"the image has {len(shape)} dimensions, a scan has 3", "give one CT volume")
    return int(shape[0]), int(shape[1]), int(shape[2])


def _place(header: Any, raw: Any, size: tuple[int, int, int]) -> tuple[Place, tuple[str, ...]]:
    """Where the voxels lie: by the sform, or without one by the qform; and what is to be said about it."""
    from nibabel.spatialimages import HeaderDataError

    try:
        forms = {
            name: form
            for name in ("sform", "qform")
            if (form := getattr(header, f"get_{name}")(coded=True)[0]) is not None
        }
    except (HeaderDataError, ValueError) as error:
        raise ScanError("the NIfTI header's orientation is damaged", "export the scan again") from error
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
    elif "sform" in forms:
        repairs += _lengths_agree(forms["sform"], np.abs(raw["pixdim"][1:4]) * unit_mm, unit_mm)
    else:
        repairs += _lengths_above_0(raw["pixdim"][1:4])
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

    axes = ["".join(code or "?" for code in nibabel.aff2axcodes(form)) for form in (sform, qform)]
    if axes[0] != axes[1]:
        raise ScanError(
            f"the NIfTI header has two orientations that contradict: "
            f"axes {axes[0]} by the sform, {axes[1]} by the qform",
            "find out which is right, and set the code of the other to 0; or convert the DICOM series again",
        )
    return (f"sform and qform lie up to {apart_mm:.1f} mm apart: the sform is used",)


def _lengths_agree(sform: np.ndarray, pixdim_mm: np.ndarray, unit_mm: float) -> tuple[str, ...]:
    """What is to be said about a header whose spacing is not that of its orientation."""
    spacing_mm = np.linalg.norm(sform[:3, :3], axis=0) * unit_mm
    if (np.abs(pixdim_mm - spacing_mm) <= _SAME_SPACING * spacing_mm).all():
        return ()
    said, used = (" x ".join(f"{step:.4g}" for step in steps) for steps in (pixdim_mm, spacing_mm))
    return (f"pixdim says that voxels measure {said} mm, the sform {used} mm: the sform is used",)


def _lengths_above_0(pixdim: np.ndarray) -> tuple[str, ...]:
    """What is to be said about the spacing that goes with a qform; nibabel makes 1 of 0, and drops signs.

    Raises:
        ScanError: a length of 0.
    """
    if (pixdim == 0).any():
        raise ScanError(
            "the spacing (pixdim) is 0 along an axis, a scan has three lengths above 0",
            "correct the spacing in the header, or export the scan again",
        )
    return ("pixdim is negative: its sign was left out",) if (pixdim < 0).any() else ()
