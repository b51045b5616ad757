"""The DICOM slices in a folder, series by series, and which series is the scan."""

import re
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctssl.errors import DamagedError, ScanError
from ctssl.prepare.headers import check_numbers, described
from ctssl.prepare.source import Bounded, files_below, named_alike

_TAGS = [
    *("SOPClassUID", "Modality", "SeriesInstanceUID", "ImageType", "SamplesPerPixel", "NumberOfFrames"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"),
    *("BitsAllocated", "PixelRepresentation", "RescaleSlope", "RescaleIntercept", "PixelPaddingValue"),
    *("ConvolutionKernel", "SliceThickness", "ManufacturerModelName"),
]
_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"  # the storage class of single CT slices
_MULTI_FRAME = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
_MARK = b"DICM"
_BARE = (b"\x08\x00", b"\x02\x00")  # the first group of files from before the mark
_REFORMATS = ("MPR", "MIP", "MINIP", "REFORMATTED", "PROJECTION", "VRT", "3D", "CURVED", "SCREEN", "DOSE")
_MIN_SLICES = 8
_UID = re.compile(r"[0-9.]{1,64}")
CHOOSE = "give one of them as series_uid in the manifest; `ctssl series FOLDER` shows the uid of each"
_RIGHT_ANGLE = 0.01  # cosines and lengths of the two axes of a slice may be off by so much


@dataclass(frozen=True)
class Slice:
    """One file of a series.

    Attributes:
        path: of the file.
        header: its tags, a pydicom dataset without pixels.
        position_mm: (3,) of the first voxel's centre, x, y, z in LPS mm.
        across, down: (3,) unit vectors along a row and along a column.
        spacing_mm: (2,) between rows and between columns, as DICOM has it.
    """

    path: Path
    header: Any
    position_mm: np.ndarray
    across: np.ndarray
    down: np.ndarray
    spacing_mm: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.header.Rows), int(self.header.Columns)


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM does."""
    with path.open("rb") as file:
        head = file.read(132)
    return head[128:] == _MARK or head[:2] in _BARE


def scan_series(folder: Path, series_uid: str | None) -> tuple[list[Slice], tuple[str, ...]]:
    """The slices of the series that is the scan, in no order, and what was left out.

    The largest CT series: localizers and other modalities never, reformats and other derived images only
    when nothing else is there. All files below the folder are looked at.

    Raises:
        ScanError: no such series, or two of the same size, between which only a person can choose; slices
            that do not say where they lie; files that should be slices and are empty or not there.
    """
    series = _series(folder)
    if series_uid is None:
        uid, repairs = _largest(series)
    elif series_uid in series:
        uid, repairs = series_uid, ()
    else:
        raise ScanError(
            f"the folder holds no series with the given series_uid; it holds {_listed(series)}", CHOOSE
        )
    images, scouts = _images(series[uid])
    if not images:
        raise ScanError(
            "the series with the given series_uid holds no CT slices",
            "leave series_uid empty, or give one that is neither a localizer nor of another modality",
        )
    known = {path for files in series.values() for path, _ in files}
    _check_whole([path for path, _ in images], known)
    if scouts:
        repairs += (f"{scouts} images of the series are localizers or not CT slices: left out",)
    return [_placed(path, header) for path, header in images], repairs


def list_series(folder: Path) -> str:
    """The series below a folder, the largest first, one a line: uid, number of images, thickness, kernel.

    Raises:
        ScanError: there is none, or a file is damaged.
    """
    found = sorted(_series(folder).items(), key=lambda item: len(item[1]), reverse=True)
    shown = [(uid if _UID.fullmatch(uid) else "no valid uid", files) for uid, files in found]
    return "\n".join(f"{uid}  {described(files[0][1], len(files))}" for uid, files in shown)


def _series(folder: Path) -> dict[str, list[tuple[Path, Any]]]:
    """UID -> files and headers of each series below a folder."""
    import pydicom
    from pydicom.errors import BytesLengthException, InvalidDicomError

    damage = (InvalidDicomError, BytesLengthException, KeyError, NotImplementedError, RecursionError)
    series = defaultdict(list)
    for path in (p for p in files_below(folder) if p.name != "DICOMDIR"):
        if not is_dicom(path):
            continue
        with warnings.catch_warnings():  # they quote what stands in headers
            warnings.simplefilter("ignore")
            try:
                with path.open("rb") as file:
                    header = pydicom.dcmread(
                        Bounded(file), stop_before_pixels=True, specific_tags=_TAGS, force=True
                    )
                list(header)  # turns every value into its type
            except (*damage, EOFError, OSError, ValueError) as fault:
                if isinstance(fault, OSError) and fault.errno is not None:
                    raise  # the machine's; pydicom says OSError of a cut header, too
                raise DamagedError(
                    "a DICOM file of the folder is damaged", "copy or export the series again"
                ) from None
        check_numbers(header)
        if "SOPClassUID" in header and "SeriesInstanceUID" in header:
            series[str(header.SeriesInstanceUID)].append((path, header))
        elif _CT_IMAGE in (header.get("SOPClassUID"), header.file_meta.get("MediaStorageSOPClassUID")):
            raise DamagedError(  # left out, a first or last slice would be missed by nobody
                "a DICOM file of the folder is damaged: its header ends too early, or names no series",
                "copy or export the series again",
            )
    if not series:
        raise ScanError(
            "the folder holds no DICOM series",
            "name the folder that holds the slices, or one above it",
        )
    return series


def _check_whole(slices: list[Path], known: set[Path]) -> None:
    """Nothing, when no other file beside the slices has such a name; `known` ones are DICOM.

    Raises:
        ScanError: one is empty, or a link to what was never fetched; at the end of a stack it leaves no gap.
    """
    others = named_alike(slices) - known
    lost = [path for path in others if not (path.is_dir() or (path.is_file() and is_dicom(path)))]
    if lost:
        raise ScanError(
            f"{len(lost)} files beside the slices are named as slices and hold none: slices are missing",
            "copy them again, or fetch them (datalad get, dvc pull); move elsewhere what is no slice",
        )


def _largest(series: dict[str, list[tuple[Path, Any]]]) -> tuple[str, tuple[str, ...]]:
    """UID of the series with most CT slices, originals before derived ones, and a word on the choice."""
    counts = {uid: len(_images(files)[0]) for uid, files in series.items()}
    _refuse_frames(series, counts)
    if not any(counts.values()):
        raise ScanError(
            f"the folder holds no CT slices but {_listed(series)}", "give the folder of the axial CT series"
        )
    original = [u for u, files in series.items() if counts[u] >= _MIN_SLICES and not _is_derived(files)]
    possible = original or [uid for uid in series if counts[uid]]
    most = max(counts[uid] for uid in possible)
    best = [uid for uid in possible if counts[uid] == most]
    if len(best) > 1:
        raise ScanError(
            f"{len(best)} CT series have {most} slices each, perhaps two reconstructions of one scan: "
            f"{_listed({uid: series[uid] for uid in best})}",
            f"{CHOOSE}; the same kind of kernel for the whole cohort is best",
        )
    repairs: tuple[str, ...] = ()
    if len(series) > 1:
        repairs = (
            f"the folder holds {len(series)} DICOM series: the largest CT series was read, {most} slices",
        )
    if not original and _is_derived(series[best[0]]):
        repairs += ("the series is derived (its ImageType says so): read because there is no original",)
    return best[0], repairs


def _refuse_frames(series: dict[str, list[tuple[Path, Any]]], counts: dict[str, int]) -> None:
    frames = [
        int(header.get("NumberOfFrames") or 1)
        for files in series.values()
        for _, header in files
        if header.SOPClassUID in _MULTI_FRAME
    ]
    if frames and max(frames) > max(counts.values()):
        raise ScanError(
            f"the scan is one multi-frame DICOM file (enhanced CT, {max(frames)} frames)",
            "convert it to NIfTI with dcm2niix and give that",
        )


def _images(files: list[tuple[Path, Any]]) -> tuple[list[tuple[Path, Any]], int]:
    """Those files that are single CT slices and no localizers, and how many are not."""
    images = [
        (path, header)
        for path, header in files
        if header.SOPClassUID == _CT_IMAGE
        and header.get("Modality", "CT") == "CT"
        and "LOCALIZER" not in _kinds(header)
        and int(header.get("NumberOfFrames") or 1) == 1
        and int(header.get("SamplesPerPixel") or 1) == 1
    ]
    return images, len(files) - len(images)


def _is_derived(files: list[tuple[Path, Any]]) -> bool:
    """Whether a series is a reformat, a projection, a copy of a screen.

    DERIVED alone says little: thin reconstructions of many scanners are DERIVED, PRIMARY, AXIAL.
    """
    kinds = _kinds(_images(files)[0][0][1])
    words = {word for kind in kinds[1:] for word in kind.replace("_", " ").split()}
    return "SECONDARY" in kinds[1:2] or bool(words & set(_REFORMATS))


def _kinds(header: Any) -> list[str]:
    kinds = header.get("ImageType") or []
    return [str(kind).upper() for kind in ([kinds] if isinstance(kinds, str) else kinds)]


def _placed(path: Path, header: Any) -> Slice:
    """A slice with its place.

    Raises:
        ScanError: the header does not tell, or tells what cannot be.
    """
    tags = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
    known = all(tag in header and count == header[tag].VM for tag, count in tags.items())
    if not (known and header.get("Rows") and header.get("Columns")):
        raise ScanError(
            "the DICOM slices do not say where they lie: position (three numbers), orientation (six), "
            "spacing (two) or size is missing",
            "export the original axial CT series",
        )
    position, spacing = np.array(header.ImagePositionPatient, float), np.array(header.PixelSpacing, float)
    if not (np.isfinite(position).all() and np.isfinite(spacing).all() and spacing.min() > 0):
        raise ScanError(
            f"a DICOM slice has the PixelSpacing {numbers_of(spacing)} and the ImagePositionPatient "
            f"{numbers_of(position)}, expected are two lengths above 0 and a point, in mm",
            "export the original axial CT series",
        )
    axes = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
    lengths = np.linalg.norm(axes, axis=1)
    off = np.abs([*(lengths - 1), axes[0] @ axes[1]]).max()
    if not off <= _RIGHT_ANGLE:  # written so that it is true of NaN
        raise ScanError(
            f"a DICOM slice has the ImageOrientationPatient {numbers_of(axes.ravel())}, "
            "expected are two unit vectors at right angles",
            "export the original axial CT series; do not edit its headers",
        )
    across, down = axes / lengths[:, None]
    return Slice(path, header, position, across, down, spacing)


def numbers_of(numbers: np.ndarray) -> str:
    """Numbers as an error message has them."""
    return ", ".join(f"{n:.6g}" for n in numbers)


def _listed(series: dict[str, list[tuple[Path, Any]]]) -> str:
    """Series as an error message may name them: nothing that could hold a name, and no uid."""
    found = sorted(series.values(), key=len, reverse=True)
    return "; ".join(described(files[0][1], len(files)) for files in found)
