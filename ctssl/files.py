"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Nothing; an OSError without a file's name gets this one: the system's word on a write has none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Nothing; the file is replaced in one step when all of it is on the disk.

    Raises:
        OSError: the disk did not take it; what was there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
