"""The record of a training: a csv file with a row a step."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

LINES = "history.jsonl"
"""Beside the checkpoints: the phases' rows differ in their columns."""


class History:
    """Rows that are written as they come.

    Args:
        folder: of the checkpoints.
        kept: bytes of an interrupted training's rows that still hold; what came after them is cut off.
        show: gets each row, too.
    """

    def __init__(self, folder: Path, kept: int, show: Callable[[dict[str, Any]], None]) -> None:
        self._show = show
        self._file = (folder / LINES).open("ab")
        self._file.truncate(kept)

    def __enter__(self) -> "History":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, row: dict[str, Any]) -> None:
        """Write one row."""
        self._file.write(json.dumps(row).encode() + b"\n")
        self._show(row)

    def flushed(self) -> int:
        """How many bytes are written; they are on the disk then, as the checkpoint that counts on them is."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()


def write_csv(folder: Path, path: Path) -> None:
    """Write the rows that lie in a folder as a table, whole or not at all.

    Columns stand in the order in which they came first; one that a row lacks is empty.
    """
    lines = folder / LINES
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    part = path.with_name(f"{path.name}.part")
    with part.open("w", newline="") as file:
        columns = dict.fromkeys(name for row in rows for name in row)
        writer = csv.DictWriter(file, list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)
