"""The voxels of a file, read in full or not at all. What headers promise is checked before memory is taken.

Libraries read what is missing as 0, take memory for whatever a header promises, and follow names to anywhere.
"""

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from ctssl.errors import DamagedError, ScanError

Packing = Literal["raw", "gzip", "zlib"]

_CHUNK = 1 << 24
_MAX_DEFLATION = 1040  # zlib never packs tighter


@dataclass(frozen=True)
class Block:
    """Voxels in a file.

    Attributes:
        path: of the file.
        offset: bytes before them, in the unpacked stream; -1: they are the last of a raw file.
        dtype: of a voxel, with its byte order.
        size: voxels along i, j, k; i runs fastest.
        packing: raw is none; gzip has a header and may come in parts, zlib is one stream.
        start: bytes of the file before the packed stream.
    """

    path: Path
    offset: int
    dtype: np.dtype
    size: tuple[int, int, int]
    packing: Packing = "raw"
    start: int = 0

    @property
    def nbytes(self) -> int:
        """Of all voxels."""
        return int(np.prod(self.size, dtype=np.int64)) * self.dtype.itemsize


def read_voxels(block: Block) -> np.ndarray:
    """(z, y, x) stored values.

    Raises:
        ScanError: the file ends before the last voxel, or its packing or checksum is wrong; or it goes on by
            as much as a side of the volume holds.
    """
    nbytes, held = block.nbytes, block.path.stat().st_size - block.start
    offset = held - nbytes if block.offset == -1 else block.offset
    raw = block.packing == "raw"
    most = (held if raw else held * _MAX_DEFLATION) - max(offset, 0)
    if most < nbytes or offset < 0:
        raise DamagedError(
            f"the image file is damaged: it holds {max(most, 0)} bytes of voxels at most, "
            f"the header promises {nbytes}",
            "copy or export it again",
        )
    voxels = np.empty(block.size[::-1], block.dtype)
    try:
        with _unpacked(block) as file:
            _skip(file, offset)
            _fill(voxels.reshape(-1).view(np.uint8).data, file)
            rest = _rest(file, nbytes // max(block.size))  # at the end, gzip compares the checksum
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        what = "it ends too early" if isinstance(error, EOFError) else "its packing is broken"
        raise DamagedError(f"the image file is damaged: {what}", "copy or export it again") from error
    if rest >= nbytes // max(block.size):
        raise ScanError(
            "the image file holds more voxels than its header promises: rows or slices would be torn apart",
            "correct the size in the header, or export the scan again",
        )
    return voxels


def beside(header: Path, name: str) -> Path:
    """The file of that name in the folder of a header, or below it.

    Raises:
        ScanError: it is not there, no regular file, or elsewhere; or voxels are spread over several files.
    """
    if name.split(maxsplit=1)[:1] == ["LIST"] or "%" in name:
        raise ScanError(
            "the image cannot be read: its voxels are spread over several files",
            "export it as one file: NIfTI, NRRD or MHA",
        )
    home = os.path.normpath(header.parent.absolute())
    path = Path(os.path.normpath(Path(home, name)))
    if "\0" in name or not path.is_relative_to(home):
        raise ScanError(
            "the image cannot be read: its header names a file outside of its own folder",
            "put the file with the voxels beside the header, and its bare name into the header",
        )
    if not path.is_file():
        raise ScanError(
            "the image cannot be read: its voxels are in another file, which is not there",
            "copy that file too, into the folder of the header",
        )
    return path


class _Bytes(Protocol):
    def readinto(self, buffer: memoryview, /) -> int | None: ...


@contextmanager
def _unpacked(block: Block) -> Iterator[_Bytes]:
    with block.path.open("rb") as file:
        file.seek(block.start)
        if block.packing == "gzip":
            with gzip.open(file) as stream:
                yield stream
        else:
            yield _Inflated(file) if block.packing == "zlib" else file


class _Inflated:
    """Unpacks one zlib stream; what follows it is not looked at."""

    def __init__(self, file: _Bytes) -> None:
        self._file, self._stream, self._rest = file, zlib.decompressobj(wbits=47), b""

    def readinto(self, buffer: memoryview) -> int:
        """How many bytes were put into the buffer; 0 at the end of the stream."""
        while len(buffer) and not self._stream.eof:
            if not self._rest:
                chunk = bytearray(1 << 16)
                count = self._file.readinto(memoryview(chunk))
                if not count:
                    raise EOFError
                self._rest = bytes(chunk[:count])
            got = self._stream.decompress(self._rest, len(buffer))
            self._rest = self._stream.unconsumed_tail
            if got:
                buffer[: len(got)] = got
                return len(got)
        return 0


def _skip(file: _Bytes, count: int) -> None:
    spare = memoryview(bytearray(min(count, _CHUNK)))
    while count:
        got = file.readinto(spare[: min(count, len(spare))])
        if not got:
            raise EOFError
        count -= got


def _rest(file: _Bytes, most: int) -> int:
    """How many bytes are left, of so many at most."""
    spare, done = memoryview(bytearray(min(most, _CHUNK))), 0
    while done < most and (got := file.readinto(spare[: most - done])):
        done += got
    return done


def _fill(buffer: memoryview, file: _Bytes) -> None:
    done = 0
    while done < len(buffer):
        count = file.readinto(buffer[done : done + _CHUNK])
        if not count:
            raise EOFError
        done += count
