"""Writing a synthetic cohort: whose the folder is, what is in it already, and the processes that work."""

import csv
import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ctssl.cohorts.phantom.chest import build_chest
from ctssl.errors import ConfigError
from ctssl.jobs.supervise import die_with_parent
from ctssl.log import Progress

CARD, TABLE = "phantom.json", "scans.csv"
_MARK = ".phantom"  # says which kind of cohort the folder is for; whoever writes holds a lock on it
_BYTES_PER_VOXEL = 90  # of one worker, seen at 1 mm
_SHARE = 0.7  # of the machine's memory


@contextmanager
def claimed(folder: Path, kind: str, card: dict[str, Any]) -> Iterator[bool]:
    """Whether this cohort is to be made: not when the card in the folder is the same already.

    A folder is taken when it is new or empty, or was made by this. While it is written there is no card and
    no table, so that a half-made cohort is never taken for a whole one; the card is written at the end.

    Args:
        folder: of the cohort.
        kind: images or oracle; they do not share a folder.
        card: what the cohort is made with.

    Raises:
        ConfigError: the folder is somebody else's, or another run writes into it.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} should be a folder, but is a file", "name another one")
    mark = folder / _MARK
    if folder.is_dir() and any(folder.iterdir()) and not mark.exists():
        raise ConfigError(
            f"{folder} holds files that are not a phantom's; its images/ and scans.csv would be replaced",
            "name a new folder",
        )
    folder.mkdir(parents=True, exist_ok=True)
    with mark.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another run writes into {folder}", "wait for it, or stop it") from error
        file.seek(0)
        before = file.read().strip()
        if before not in ("", kind):
            raise ConfigError(f"{folder} holds a cohort of kind {before}, not {kind}", "name another folder")
        if not before:
            print(kind, file=file, flush=True)
        wanted = read_json(folder / CARD) != card or not (folder / TABLE).exists()
        if wanted:
            (folder / CARD).unlink(missing_ok=True)
            (folder / TABLE).unlink(missing_ok=True)
        yield wanted
        if wanted:
            _write(folder / CARD, json.dumps(card, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The values of a JSON file; none when it is missing or was cut short."""
    try:
        return dict(json.loads(path.read_text()))
    except (FileNotFoundError, ValueError):
        return {}


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """The same values as they come back from JSON."""
    return dict(json.loads(json.dumps(values)))


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Nothing; writes rows as CSV, all at once."""
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


@contextmanager
def shared_chest(spacing_mm: float) -> Iterator[Path]:
    """A folder from which all processes read one canonical chest."""
    with TemporaryDirectory(prefix="ctssl-chest-") as name:
        build_chest(spacing_mm).save(Path(name))
        yield Path(name)


def make_all(
    make: Callable[[int], dict[str, Any]], scans: int, voxels: int, what: str
) -> list[dict[str, Any]]:
    """The row of each scan, in order, made by one process for each processor that we may use.

    Args:
        make: number of the scan to its row.
        scans: how many.
        voxels: of a scan: large ones take fewer processes, so that they fit into memory.
        what: for the progress line.

    Raises:
        ConfigError: not even one scan fits into memory.
    """
    count = _workers(voxels)
    rows = []
    with (
        ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=die_with_parent) as pool,
        Progress(what, scans, "scans") as progress,
    ):
        for row in _in_order(pool, make, range(scans), ahead=2 * count):
            rows.append(row)
            progress.advance()
    return rows


def _in_order(
    pool: ProcessPoolExecutor, make: Callable[[int], dict[str, Any]], numbers: Iterable[int], ahead: int
) -> Iterator[dict[str, Any]]:
    """Results in order, with few jobs under way: millions of them would not fit into memory."""
    waiting = iter(numbers)
    running: list[Future[dict[str, Any]]] = [pool.submit(make, n) for n in islice(waiting, ahead)]
    while running:
        yield running.pop(0).result()
        running += [pool.submit(make, n) for n in islice(waiting, 1)]


def _workers(voxels: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = _SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    fitting = int(memory / (voxels * _BYTES_PER_VOXEL))
    if fitting < 1:
        raise ConfigError(
            f"a scan of {voxels / 1e6:.0f} million voxels needs about "
            f"{voxels * _BYTES_PER_VOXEL / 1e9:.0f} GB of memory, and this machine lends {memory / 1e9:.1f}",
            "ask for larger voxels",
        )
    return min(cores, fitting)
