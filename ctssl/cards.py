"""Files that may come from elsewhere, or may be cut by a crash; most are JSON: statuses, cards, metadata."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

MOST_BYTES = 8 << 20
"""More is no card: the published atlas, the longest of them, has 0.1 MB."""

_NO_FILE = {errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENAMETOOLONG}


def open_file(path: Path) -> BinaryIO:
    """The file, open for reading; never a pipe, which would wait for a writer, nor a device without end.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such file.
        ValueError: it is no file.
        OSError: the machine cannot read it.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise ValueError(f"{path.name} is no file that can be read ({error.strerror})") from error
        raise
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise ValueError(f"{path.name} is no file")
    return os.fdopen(number, "rb")


def read_card(path: Path) -> dict[str, Any]:
    """Key -> value of the JSON object in this file.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such file.
        ValueError: it is no file, too long, or holds something else.
        OSError: the machine cannot read it.
    """
    with open_file(path) as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"{path.name} has more than {MOST_BYTES >> 20} MB")
    try:
        values = json.loads(data.decode())
        json.dumps(values, ensure_ascii=False).encode()  # halves of characters could not be written again
    except RecursionError as error:
        raise ValueError(f"{path.name} is nested too deeply") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path.name} should hold a JSON object, but holds a {type(values).__name__}")
    return values
