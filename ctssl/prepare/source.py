"""The files of a scan while they are read: whether the disk gives all their bytes, and they hold still.

A library says "damaged" of a disk that fails, of a file that is still being copied, and of a damaged file.
Only the last is the scan's fault for good.
"""

import errno
import os
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from glob import escape
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO, TypeVar

from ctssl.errors import ChangedError, DamagedError, ScanError

T = TypeVar("T")
_CHUNK = 1 << 24
_DETACHED = (".mhd", ".nhdr")
_NUMBER = re.compile(r"[0-9]+")
_ENDINGS = (".dcm", ".ima")


def steadily(path: Path, read: Callable[[], T], most_bytes: int) -> T:
    """What `read` returns of the files of a scan, when they were the same before and after.

    A DamagedError is believed when the disk gives all bytes and `read` says it twice.

    Args:
        path: the scan's file or folder.
        read: with the library.
        most_bytes: more are not looked at: a scan that is larger is refused for its size.

    Raises:
        OSError: the disk does not give the bytes, the library alone did not tell.
        ChangedError: a file was replaced, cut, lengthened, added or removed meanwhile.
    """
    before = _marks(path)
    try:
        found = _twice(read, list(before), most_bytes)
    except (ScanError, FileNotFoundError) as error:
        if _marks(path) != before:
            raise _changed() from error
        raise
    if _marks(path) != before:
        raise _changed()
    return found


def _twice(read: Callable[[], T], files: list[Path], most_bytes: int) -> T:
    """What `read` returns; when it says that something is damaged, and the disk gives it, the second time."""
    try:
        return read()
    except DamagedError:
        _read_bytes(files, most_bytes)
        return read()


class Bounded:
    """A file that takes no memory for bytes that it does not have; Python's own does, before it looks."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size = file, os.fstat(file.fileno()).st_size
        self.seek, self.tell = file.seek, file.tell

    def read(self, count: int = -1) -> bytes:
        """So many bytes, all when below 0, or fewer at the end."""
        left = max(0, self._size - self._file.tell())
        return self._file.read(left if count < 0 else min(count, left))


def files_below(folder: Path) -> list[Path]:
    """Regular files at any depth, sorted; links to files count, links to folders are not followed.

    Raises:
        OSError: a folder or file cannot be looked at; `Path.rglob` would leave it out without a word.
    """
    paths = [Path(at, name) for at, _, names in os.walk(folder, onerror=_raise) for name in names]
    return sorted(path for path in paths if _regular(path))


def named_alike(files: Collection[Path]) -> set[Path]:
    """Whatever lies in the folders of these slices under such a name: with their ending, or other digits."""
    names, folders = {_name(path) for path in files}, {path.parent for path in files}
    return {path for folder in folders for path in folder.iterdir() if _name(path) in names}


def _name(path: Path) -> str:
    """What names of the slices of a series have in common; hidden files belong to the system."""
    ending = path.suffix.lower()
    return ending if ending in _ENDINGS and path.name[0] != "." else _NUMBER.sub("", path.name)


def _raise(error: OSError) -> None:
    raise error


def _regular(path: Path) -> bool:
    try:
        return S_ISREG(path.stat().st_mode)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):  # a link to nowhere, or to itself
            return False
        raise


def _marks(path: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of each file that belongs to a scan; nothing of a file that is not there.

    No inode: network drives in user space may number a file anew each time they are asked.
    """
    if path.is_dir():
        files = files_below(path)
    elif path.suffix.lower() in _DETACHED:  # the voxels lie beside the header, and share its stem
        files = sorted({path, *path.parent.glob(f"{escape(path.stem)}.*")})
    else:
        files = [path]
    marks = {}
    for file in files:
        with suppress(FileNotFoundError):
            about = file.stat()
            if S_ISREG(about.st_mode):
                marks[file] = about.st_size, about.st_mtime_ns
    return marks


def _read_bytes(files: list[Path], most: int) -> None:
    for path in files:
        with path.open("rb") as file:
            while most > 0 and (got := file.read(_CHUNK)):
                most -= len(got)


def _changed() -> ChangedError:
    return ChangedError(
        "the file changed while it was read", "let the copying end, then run the same command again"
    )
