"""MetaImage: .mha, or .mhd with the voxels in a file beside it.

Source: the format's description at itk.org/Wiki/ITK/MetaIO/Documentation; where it is silent, what ITK does.
"""

from pathlib import Path

import numpy as np

from ctssl.errors import ScanError
from ctssl.prepare.fields import Fields, damaged, volume_only
from ctssl.prepare.geometry import Place, Stored, check_place
from ctssl.prepare.hounsfield import rescaled
from ctssl.prepare.voxels import Block, beside, read_voxels

_DTYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4"},
    **{"MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8"},
    **{"MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
_LAST = "ElementDataFile"
_NO_MATRIX = "the header has no TransformMatrix: the axes run to the left, to the back and up, its default"


def read_metaimage(path: Path, max_voxels: int) -> Stored:
    """What a MetaImage file holds.

    Raises:
        ScanError: damaged, without spacing, not a volume, or larger than `max_voxels`.
    """
    fields = Fields(path, "=:", _LAST, capitals=True)
    if fields.text(_LAST) is None:
        raise damaged("it has no ElementDataFile")
    volume_only(_count(fields, 0, "NDims"), _count(fields, 1, "ElementNumberOfChannels"))
    size = fields.integers(3, "DimSize")
    if size is None:
        raise damaged("it has no DimSize")
    place, repairs = _place(fields)
    check_place(size, place, max_voxels)
    values = rescaled(read_voxels(_block(path, fields, (size[0], size[1], size[2]))), 1, 0)
    return Stored(values, place, repairs, False, {"format": "MetaImage"})


def _place(fields: Fields) -> tuple[Place, tuple[str, ...]]:
    """Where the voxels lie, and what is to be said about it.

    Raises:
        ScanError: the header does not say how large they are (ITK would take 1 mm).
    """
    spacing = fields.numbers(3, "ElementSpacing", "ElementSize")
    if spacing is None:
        raise ScanError(
            "the header does not say how large the voxels are: it has no ElementSpacing",
            "add the line ElementSpacing = X Y Z, in mm, before ElementDataFile; or export the scan again",
        )
    if not (spacing > 0).all():  # a negative one would mirror the scan
        raise damaged("its ElementSpacing is not three lengths above 0")
    origin = fields.numbers(3, "Offset", "Origin", "Position")
    axes = fields.numbers(9, "TransformMatrix", "Orientation", "Rotation")
    directions = np.eye(3) if axes is None else axes.reshape(3, 3).T  # an axis after the other
    place = Place(np.zeros(3) if origin is None else origin, directions * spacing)
    return place, ((_NO_MATRIX,) if axes is None else ())


def _block(path: Path, fields: Fields, size: tuple[int, int, int]) -> Block:
    """Where the voxels are.

    Raises:
        ScanError: the header does not say, or says what is not known here.
    """
    code = _DTYPES.get((fields.text("ElementType") or "").upper())
    if code is None:
        raise damaged("its ElementType is none of the numbers that a scan can hold")
    if not _yes(fields, "BinaryData", default="True"):
        raise ScanError(
            "the image cannot be read: its voxels are stored as text", "export it again as binary data"
        )
    big = _yes(fields, "BinaryDataByteOrderMSB", "ElementByteOrderMSB")
    name = fields.text(_LAST) or ""
    here, start = (path, fields.end) if name.upper() == "LOCAL" else (beside(path, name), 0)
    skip = _count(fields, 0, "HeaderSize")
    packed = _yes(fields, "CompressedData")
    if skip < -1 or (skip and packed):
        raise damaged("its HeaderSize is no number of bytes before raw voxels")
    start = 0 if skip > 0 else start  # it counts from the start of the file
    dtype = np.dtype(f"{'>' if big else '<'}{code}")
    return Block(here, skip, dtype, size, "zlib" if packed else "raw", start)


def _count(fields: Fields, default: int, name: str) -> int:
    return (fields.integers(1, name) or (default,))[0]


def _yes(fields: Fields, *names: str, default: str = "False") -> bool:
    return (fields.text(*names) or default).lower().startswith(("t", "1"))
