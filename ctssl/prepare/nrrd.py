"""NRRD: .nrrd, or .nhdr with the voxels in a file beside it.

Source: the format's definition at teem.sourceforge.net/nrrd/format.html.
"""

from pathlib import Path

import numpy as np

from ctssl.errors import ScanError
from ctssl.prepare.fields import Fields, damaged, volume_only
from ctssl.prepare.geometry import Place, Stored, check_place
from ctssl.prepare.hounsfield import rescaled
from ctssl.prepare.voxels import Block, Packing, beside, read_voxels

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_DTYPES = {name: code for code, names in _TYPES.items() for name in names}
_ORDERS = {"little": "<", "big": ">"}
_PACKINGS: dict[str, Packing] = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}
_TO_LPS = {  # of x and y; z always grows to the head
    **dict.fromkeys(("left-posterior-superior", "lps"), (1, 1, 1)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1, -1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1, -1, 1)),
}


def read_nrrd(path: Path, max_voxels: int) -> Stored:
    """What an NRRD file holds.

    Raises:
        ScanError: damaged, without orientation, not a volume, or larger than `max_voxels`.
    """
    with path.open("rb") as file:
        if not file.read(8).startswith(b"NRRD000"):
            raise damaged("it does not begin with NRRD")
    fields = Fields(path, ":", capitals=False)
    size = _size(fields)
    place = _place(fields)
    check_place(size, place, max_voxels)
    return Stored(
        rescaled(read_voxels(_block(path, fields, size)), 1, 0), place, (), False, {"format": "NRRD"}
    )


def _size(fields: Fields) -> tuple[int, int, int]:
    (dimension,) = fields.integers(1, "dimension") or (0,)
    kinds = (fields.text("kinds") or "").split()
    values = {"list", "vector", "point", "scalar", "complex"}
    mixed = [kind for kind in kinds if kind.lower() in values or "-" in kind]
    volume_only(dimension - len(mixed), 1 + len(mixed))
    size = fields.integers(3, "sizes")
    if size is None:
        raise damaged("it has no sizes")
    return size[0], size[1], size[2]


def _place(fields: Fields) -> Place:
    """Where the voxels lie.

    Raises:
        ScanError: the header does not say which way is left.
    """
    signs = _TO_LPS.get((fields.text("space") or "").lower())
    if signs is None or fields.text("space directions") is None:
        raise ScanError(
            "the NRRD header does not say which way is left: it has no space, or no space directions",
            "export it again with its space and space directions (3D Slicer and ITK write them)",
        )
    steps = fields.vectors(3, "space directions")
    origin = fields.vectors(1, "space origin")
    assert steps is not None, "looked at above"
    return Place((np.zeros(3) if origin is None else origin[0]) * signs, (steps * signs).T)


def _block(path: Path, fields: Fields, size: tuple[int, int, int]) -> Block:
    """Where the voxels are.

    Raises:
        ScanError: the header does not say, or says what is not known here.
    """
    code = _DTYPES.get((fields.text("type") or "").lower())
    if code is None:
        raise damaged("its type is none of the numbers that a scan can hold")
    order = _ORDERS.get((fields.text("endian") or "").lower())
    if order is None and code[1] != "1":
        raise damaged("it does not say in which order bytes stand (endian)")
    packing = _PACKINGS.get((fields.text("encoding") or "").lower())
    if packing is None:
        raise ScanError(
            "the image cannot be read: its voxels are neither raw nor packed with gzip",
            "export it again with the encoding raw or gzip",
        )
    name = fields.text("data file", "datafile")
    here = path if name is None else beside(path, name)
    start = _after_lines(here, fields.end if name is None else 0, _count(fields, "line skip", "lineskip"))
    skip = _count(fields, "byte skip", "byteskip")
    if skip < -1 or (skip == -1 and packing != "raw"):
        raise damaged("its byte skip is no number of bytes")
    return Block(here, skip, np.dtype(f"{order or '<'}{code}"), size, packing, start)


def _count(fields: Fields, *names: str) -> int:
    return (fields.integers(1, *names) or (0,))[0]


def _after_lines(path: Path, start: int, lines: int) -> int:
    """Bytes before the voxels, when so many lines come first."""
    if lines < 0:
        raise damaged("its line skip is no number of lines")
    with path.open("rb") as file:
        file.seek(start)
        for _ in range(lines):
            if not file.readline(1 << 20):
                raise damaged("it skips more lines than there are")
        return file.tell()
