"""Headers of text: a field a line. What they say is taken as it stands or refused, never guessed.

C++ libraries crash on some of these headers, and write past their arrays on others.
"""

from pathlib import Path

import numpy as np

from ctssl.errors import DamagedError, ScanError

_MAX_BYTES = 1 << 19  # ITK copies what it knows of DICOM, private tags too, into headers
_MAX_DIGITS = 40


def damaged(what: str) -> DamagedError:
    """The error for a header of which this is wrong; `what` holds nothing that stands in it."""
    return DamagedError(f"the image cannot be read: its header is damaged: {what}", "copy or export it again")


class Fields:
    """The fields of a header.

    Attributes:
        end: bytes before what follows the header.
    """

    def __init__(self, path: Path, separators: str, last: str = "", *, capitals: bool) -> None:
        """Reads up to the field `last`, or without one up to an empty line, or to the end of the file.

        `capitals` tell names apart; without, names are in small letters.

        Raises:
            ScanError: no text, too long, or a field comes twice.
        """
        self._values: dict[str, str] = {}
        self._twice: set[str] = set()
        self._capitals = capitals
        with path.open("rb") as file:
            while raw := file.readline(_MAX_BYTES):
                if file.tell() > _MAX_BYTES:
                    raise damaged("it does not end")
                line = raw.decode("latin-1").strip()
                if not line and not last:
                    break
                if line and not line.startswith("#"):
                    self._take(line, separators)
                if last and last in self._values:
                    break
            self.end = file.tell()

    def _take(self, line: str, separators: str) -> None:
        at = min((i for mark in separators if (i := line.find(mark)) >= 0), default=-1)
        name = line[:at].strip()
        name = name if self._capitals else name.lower()
        if at < 0 or line[at:].startswith(":="):  # := is a key of the user's own
            return
        if name in self._values:
            self._twice.add(name)
        self._values[name] = line[at + 1 :].strip()

    def text(self, *names: str) -> str | None:
        """What one of these names says, the first that is there; None when none is.

        Raises:
            ScanError: it comes twice.
        """
        for name in names:
            if name in self._twice:
                raise damaged(f"the field {name!r} comes twice")
            if name in self._values:
                return self._values[name]
        return None

    def integers(self, count: int, *names: str) -> tuple[int, ...] | None:
        """So many whole numbers, or None where the field is not there.

        Raises:
            ScanError: something else stands there.
        """
        text = self.text(*names)
        return None if text is None else tuple(int(n) for n in _parsed(text.split(), count, int, names[0]))

    def numbers(self, count: int, *names: str) -> np.ndarray | None:
        """(count,) finite numbers, or None where the field is not there.

        Raises:
            ScanError: something else stands there.
        """
        text = self.text(*names)
        return None if text is None else vector(text.split(), count, names[0])

    def vectors(self, count: int, name: str) -> np.ndarray | None:
        """(count, 3) finite numbers of vectors in brackets, (x,y,z), or None where the field is not there.

        Raises:
            ScanError: something else stands there.
        """
        text = self.text(name)
        if text is None:
            return None
        parts = [part for part in text.replace("(", ")").split(")") if part.strip()]
        if len(parts) != count:
            raise damaged(f"the field {name!r} holds no {count} vectors")
        return np.array([vector(part.split(","), 3, name) for part in parts])


def vector(words: list[str], count: int, name: str) -> np.ndarray:
    """(count,) finite numbers.

    Raises:
        ScanError: others.
    """
    found = np.array(_parsed(words, count, float, name), float)
    if not np.isfinite(found).all():
        raise damaged(f"the field {name!r} holds numbers that are not finite")
    return found


def _parsed(words: list[str], count: int, kind: type, name: str) -> list[float]:
    try:
        if len(words) == count and max(map(len, words)) <= _MAX_DIGITS:
            return [kind(word) for word in words]
    except ValueError:
        pass
    what = "whole numbers" if kind is int else "numbers"
    raise damaged(f"the field {name!r} does not hold {count} {what}")


def volume_only(dimensions: int, channels: int = 1) -> None:
    """Nothing, when an image can be a volume.

    Raises:
        ScanError: not three dimensions, or several values a voxel.
    """
    if dimensions != 3 or channels != 1:
        raise ScanError(
            f"the image has {dimensions} dimensions and {channels} values a voxel, a scan has 3 and 1",
            "give one CT volume",
        )
