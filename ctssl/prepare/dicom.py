"""A DICOM folder as one volume, when its slices say that together they are one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ctssl.errors import DamagedError, ScanError, is_memory
from ctssl.prepare.geometry import Place, Stored, check_place
from ctssl.prepare.headers import facts_of, is_packed
from ctssl.prepare.hounsfield import PADDING_HU, rescaled
from ctssl.prepare.series import Slice, is_dicom, numbers_of, scan_series

__all__ = ["is_dicom", "read_dicom"]

_ALIKE_COSINE = 0.01  # between axes of slices of one stack
_ALIKE_SPACING = 0.01  # of a length; headers round
_FACING = 0.9  # cosine between normals: a slice of that chest, no scout
_TAKEN = 0.1  # of the distance of slices: nearer, two images are at one place
_NEXT = 1.5  # distances of slices: nearer to the stack's end, an image continues it
_SAME_MM = 0.01  # two slices at one place
_JITTER_MM = 0.1  # positions are written with few digits
_JITTER = 0.1  # of the distance of slices
_SAME_SPACING = 1e-3  # of the spacing within slices; less is rounding and not worth a word
_STRAY_MM = 0.5  # sideways, from the straight line through all slices
_REAL_HU = (-1024, 3071)  # values that may be tissue even where the header calls them padding


def read_dicom(folder: Path, max_voxels: int, series_uid: str | None) -> Stored:
    """What a folder of DICOM slices holds; index k grows along the slices' normal.

    Raises:
        ScanError: no series, or none that is chosen without doubt; slices that are missing, doubled, shifted
            or damaged: reading them as a volume would stretch the anatomy without a word.
    """
    slices, repairs = scan_series(folder, series_uid)
    slices, unlike = _alike(slices)
    normal = np.cross(slices[0].across, slices[0].down)
    slices = sorted(slices, key=lambda one: float(one.position_mm @ normal))
    slices, doubled = _distinct(slices, normal)
    place, uneven = _place(slices, normal)
    header = slices[0].header
    check_place((int(header.Columns), int(header.Rows), len(slices)), place, max_voxels)
    values, padding = _voxels(slices)
    return Stored(
        values, place, repairs + unlike + doubled + uneven, padding, {"format": "DICOM", **facts_of(header)}
    )


def _alike(slices: list[Slice]) -> tuple[list[Slice], tuple[str, ...]]:
    """The largest group of slices of the same size, spacing and orientation, as far as headers round.

    Raises:
        ScanError: others are part of the same stack.
    """
    groups: list[list[Slice]] = []
    for one in slices:
        for group in groups:
            first = group[0]
            change = np.abs(one.spacing_mm / first.spacing_mm - 1).max()
            if one.size == first.size and change <= _ALIKE_SPACING and _parallel(one, first):
                group.append(one)
                break
        else:
            groups.append([one])
    kept = max(groups, key=len)
    others = [one for group in groups if group is not kept for one in group]
    if not others:
        return kept, ()
    _refuse_parts(others, kept)
    return kept, (f"{len(others)} images of the series have another size, spacing or direction: left out",)


def _parallel(one: Slice, other: Slice) -> bool:
    apart = np.abs([one.across - other.across, one.down - other.down]).max()
    return bool(apart <= _ALIKE_COSINE)


def _refuse_parts(others: list[Slice], kept: list[Slice]) -> None:
    """Nothing, when the images that were left out are no part of the stack of those that were kept.

    Raises:
        ScanError: they fill its gaps or go on where it ends: without them, anatomy would be lost.
    """
    normal = np.cross(kept[0].across, kept[0].down)
    along = np.array([one.position_mm @ normal for one in kept])
    gaps = np.diff(np.unique(along.round(2)))
    usual = float(np.median(gaps)) if len(gaps) else 0.0
    low, high = along.min() - _NEXT * usual, along.max() + _NEXT * usual
    apart = [
        one
        for one in others
        if abs(np.cross(one.across, one.down) @ normal) > _FACING
        and np.abs(along - one.position_mm @ normal).min() > _TAKEN * usual
    ]
    if any(low <= one.position_mm @ normal <= high for one in apart):
        raise ScanError(
            f"{len(apart)} of {len(others) + len(kept)} images of the series lie between or next to the "
            f"other slices but do not match them in size, spacing or direction: {_raster(apart[0])}, "
            f"the others have {_raster(kept[0])}",
            "export the series again with one matrix and one field of view, or give another as series_uid",
        )


def _raster(one: Slice) -> str:
    return f"{one.size[0]} x {one.size[1]} voxels of {numbers_of(one.spacing_mm)} mm"


def _place(slices: list[Slice], normal: np.ndarray) -> tuple[Place, tuple[str, ...]]:
    """Where the voxels lie, when the slices stand on a straight line at equal distances.

    Raises:
        ScanError: they do not.
    """
    first, positions = slices[0], np.array([one.position_mm for one in slices])
    spacings = np.array([one.spacing_mm for one in slices])
    down_mm, across_mm = np.median(spacings, 0)  # rows first
    repairs: tuple[str, ...] = ()
    if (change := float(np.ptp(spacings / spacings[0], 0).max())) > _SAME_SPACING:
        repairs = (f"PixelSpacing differs by {100 * change:.1f} % between slices: the median is used",)
    steps = np.zeros((3, 3))
    steps[:, 0], steps[:, 1], steps[:, 2] = first.across * across_mm, first.down * down_mm, normal
    if len(slices) == 1:
        return Place(positions[0], steps), repairs
    along = positions @ normal
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    wrong = np.abs(gaps - usual) > max(_JITTER_MM, _JITTER * usual)
    even = np.linspace(positions[0], positions[-1], len(slices))
    stray = positions - even
    ahead = np.abs(stray @ normal).max()
    if wrong.any() or ahead > max(_JITTER_MM, usual / 2):
        raise _uneven(gaps, usual, wrong)
    sideways = float(np.linalg.norm(stray - np.outer(stray @ normal, normal), axis=1).max())
    if sideways > _STRAY_MM:
        raise ScanError(
            f"DICOM slices lie up to {sideways:.2f} mm beside the straight line through all of them",
            "the table or the field of view was moved during the scan; give a series without that",
        )
    steps[:, 2] = (positions[-1] - positions[0]) / (len(slices) - 1)
    if ahead > _JITTER_MM:
        repairs += (f"slices lie up to {ahead:.2f} mm off equal distances of {usual:.2f} mm: taken as equal",)
    return Place(positions[0], steps), repairs


def _uneven(gaps: np.ndarray, usual: float, wrong: np.ndarray) -> ScanError:
    if not wrong.any():
        return ScanError(
            f"the distances between DICOM slices grow or shrink along the scan, from {gaps.min():.2f} to "
            f"{gaps.max():.2f} mm: the slices are uneven",
            "export the original series, whose slices have equal distances",
        )
    found = f"{gaps[wrong].min():.2f} to {gaps[wrong].max():.2f}"
    lost = int(sum(round(gap / usual) - 1 for gap in gaps[wrong] if gap > 1.5 * usual))
    count = f"{int(wrong.sum())} of {len(gaps)} distances between DICOM slices"
    return ScanError(
        f"{count} are not {usual:.2f} mm but {found} mm"
        + (f": about {lost} slices are missing" if lost else ": the slices are uneven"),
        "export the series again, complete and alone in its folder",
    )


def _distinct(slices: list[Slice], normal: np.ndarray) -> tuple[list[Slice], tuple[str, ...]]:
    """Sorted slices without copies.

    Raises:
        ScanError: unlike images at one place.
    """
    kept, unlike = slices[:1], 0
    for one in slices[1:]:
        if abs(float((one.position_mm - kept[-1].position_mm) @ normal)) > _SAME_MM:
            kept.append(one)
        elif not np.array_equal(_plane(one), _plane(kept[-1])):
            unlike += 1
    if unlike:
        raise ScanError(
            f"{unlike} of {len(slices)} DICOM slices lie where another slice lies that shows something else: "
            "several reconstructions, breathing phases or acquisitions in one series",
            "export one of them as a series of its own",
        )
    copies = len(slices) - len(kept)
    return kept, (f"{copies} of {len(slices)} DICOM slices are copies of others: left out",) if copies else ()


def _voxels(slices: list[Slice]) -> tuple[np.ndarray, bool]:
    """(z, y, x) HU of the slices, int16 or float32; and whether the headers named padding that is there."""
    header, padded = slices[0].header, False
    values = np.empty((len(slices), int(header.Rows), int(header.Columns)), np.int16)
    for number, one in enumerate(slices):
        plane = rescaled(_plane(one), 1, 0)
        if plane.dtype != values.dtype:
            values = values.astype(np.float32, copy=False)
        values[number] = plane
        fill = _padding_hu(one.header)
        if fill is not None and (unseen := plane[0] == fill).any():
            values[number][unseen] = PADDING_HU
            padded = True
    return values, padded


def _plane(one: Slice) -> np.ndarray:
    """(1, y, x) values of a slice, rescaled by its own slope and intercept (GDCM does).

    Raises:
        ScanError: damaged, or packed in a way that GDCM does not read.
    """
    import SimpleITK as sitk

    header = one.header
    needed = int(header.Rows) * int(header.Columns) * int(header.get("BitsAllocated", 16)) // 8
    if not is_packed(header) and one.path.stat().st_size < needed:
        raise DamagedError(
            "a DICOM slice is damaged: it ends before its last voxel", "copy or export the series again"
        )
    try:
        with _library_name(one.path) as name:
            return sitk.GetArrayFromImage(sitk.ReadImage(name))
    except RuntimeError as error:
        if is_memory(error):
            raise
        raise DamagedError(
            "a DICOM slice cannot be read: it is damaged, or compressed in a way that is not known here",
            "copy or export the series again, uncompressed; or convert it to NIfTI with dcm2niix",
        ) from error


@contextmanager
def _library_name(path: Path) -> Iterator[str]:
    """What SimpleITK is to open; a name that is no UTF-8, as Linux allows, would end the process (seen)."""
    if os.fsencode(path).decode(errors="replace") == str(path):
        yield str(path)
        return
    with path.open("rb") as file:
        yield f"/proc/self/fd/{file.fileno()}"


def _padding_hu(header: Any) -> float | None:
    """The value in HU that a header calls padding; None where it may as well be air or tissue."""
    if "PixelPaddingValue" not in header or header.PixelPaddingValue is None:
        return None
    bits, signed = int(header.get("BitsAllocated", 16)), int(header.get("PixelRepresentation", 0))
    stored = int(header.PixelPaddingValue) % 2**bits  # some write -2000 as 63536, others the reverse
    stored -= 2**bits if signed and stored >= 2 ** (bits - 1) else 0
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    hu = stored * float(1 if slope is None else slope) + float(intercept or 0)
    return None if _REAL_HU[0] <= hu <= _REAL_HU[1] else float(np.float32(hu))
