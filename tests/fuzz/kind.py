"""What one kind of file is to the fuzzer: valid files, which of their bytes to damage, who reads them."""

import gzip
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz.mutate import mutated

from ctssl.errors import CtsslError, ScanError

ALL = 10**9
"""As many bytes of header as the file has."""

MANY = 10**9
"""Voxels, as in config.yaml."""


@dataclass(frozen=True)
class Part:
    """A file that may be damaged.

    Attributes:
        name: glob below the case's folder; one match is drawn.
        head: bytes of its header, whose damage says most.
        text: the header is text.
        packed: damage the bytes inside the gzip file, which is packed again.
    """

    name: str
    head: int = ALL
    text: bool = False
    packed: bool = False


@dataclass(frozen=True)
class Kind:
    """One format.

    Attributes:
        make: writes the valid files into a folder.
        parts: one is drawn and damaged.
        read: the folder in, a result out. Raises AssertionError for a result that cannot be one.
        errors: classes that a damaged file may be refused with.
        same: the result must be that of the valid files, because checksums guard it.
    """

    make: Callable[[Path], None]
    parts: tuple[Part, ...]
    read: Callable[[Path], Any]
    errors: tuple[type[CtsslError], ...] = (ScanError,)
    same: bool = False

    def damage(self, folder: Path, draw: random.Random) -> None:
        """One of the files in `folder` is no longer valid."""
        part = draw.choice(self.parts)
        path = draw.choice(sorted(p for p in folder.glob(part.name) if p.is_file()))
        data = path.read_bytes()
        if part.packed:
            data = gzip.decompress(data)
        data = mutated(data, draw, head=part.head, text=part.text)
        path.write_bytes(gzip.compress(data, 1) if part.packed else data)


def pristine(kind: Kind, folder: Path) -> Any:
    """The result of the valid files, which are written into `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    kind.make(folder)
    return kind.read(folder)
