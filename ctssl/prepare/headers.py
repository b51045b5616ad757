"""What of a DICOM header may be told; all else in it may name a person and stays there.

Kernel and model are free text, in which anybody may have written anything: they are told when they are short
and of plain letters, or not at all.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

from ctssl.errors import DamagedError

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+/()-]{0,31}")
_WHOLE = (*("Rows", "Columns", "BitsAllocated", "PixelRepresentation", "SamplesPerPixel", "NumberOfFrames"),)
_SINGLE = ("RescaleSlope", "RescaleIntercept", "PixelPaddingValue")
_SEVERAL = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_MOST = 1 << 20  # of pixels along an edge, bits, frames
_MODALITIES = ("CT", "MR", "PT", "NM", "US", "CR", "DX", "SC", "SR", "SEG", "RTSTRUCT", "RTDOSE", "PR", "OT")


def check_numbers(header: Any) -> None:
    """Nothing, when tags that should hold numbers do: a header may give them any type, and any text.

    Raises:
        DamagedError: names the tag, and not what it holds.
    """
    for name in (*_WHOLE, *_SINGLE, *_SEVERAL):
        value = header.get(name)
        values = [value] if isinstance(value, str) or not isinstance(value, Sequence) else list(value)
        try:
            numbers = [float(one) for one in values if one not in (None, "")]
        except (TypeError, ValueError):
            raise _damaged(f"{name} is no number") from None
        if name not in _SEVERAL and len(numbers) > 1:
            raise _damaged(f"{name} is no number but several")
        if name in _WHOLE and any(n != n // 1 or not 0 <= n <= _MOST for n in numbers):
            raise _damaged(f"{name} is no number that can be")


def _damaged(what: str) -> DamagedError:
    return DamagedError(
        f"a DICOM file of the folder is damaged: its {what}", "copy or export the series again"
    )


def is_packed(header: Any) -> bool:
    """Whether the voxels of a file are compressed, alone or with the header, by a pydicom dataset."""
    from pydicom.uid import UID

    syntax = UID(str(header.file_meta.get("TransferSyntaxUID", "")))
    return syntax.is_transfer_syntax and (syntax.is_compressed or syntax.is_deflated)


def facts_of(header: Any) -> dict[str, Any]:
    """kernel, slice_thickness_mm, scanner (its model), as far as they are known, of a pydicom dataset."""
    facts = {
        "kernel": _plain(header.get("ConvolutionKernel")),
        "slice_thickness_mm": _length_mm(header.get("SliceThickness")),
        "scanner": _plain(header.get("ManufacturerModelName")),
    }
    return {name: value for name, value in facts.items() if value is not None}


def described(header: Any, images: int) -> str:
    """A series in words, such as `120 images, CT, 1.25 mm, kernel LUNG`.

    Args:
        header: a pydicom dataset, of one of its images.
        images: how many there are.
    """
    facts, modality = facts_of(header), header.get("Modality")
    words = [f"{images} images", modality if modality in _MODALITIES else "of no known modality"]
    words += [f"{facts['slice_thickness_mm']:g} mm"] if "slice_thickness_mm" in facts else []
    words += [f"kernel {facts['kernel']}"] if "kernel" in facts else []
    return ", ".join(words)


def _plain(value: Any) -> str | None:
    """Text, or several joined by blanks, when it is short and plain."""
    values = [value] if isinstance(value, str) else value if isinstance(value, Sequence) else []
    text = " ".join(part for part in values if isinstance(part, str)).strip()
    return text if _PLAIN.fullmatch(text) else None


def _length_mm(value: Any) -> float | None:
    try:
        length_mm = float(value)
    except (TypeError, ValueError):  # absent, or of another type than it should be
        return None
    return length_mm if 0 < length_mm < math.inf else None
