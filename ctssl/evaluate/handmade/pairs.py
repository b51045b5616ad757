"""Divergences of scans from anchors: each pair is measured once, and a small file a scan keeps its own."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ctssl.cards import read_card
from ctssl.evaluate.handmade.divergence import divergence, neighbour_distances
from ctssl.files import write_whole
from ctssl.log import say


class Pairs:
    """What is known of pairs of scans, each named by the digest of its store.

    A file holds the divergence of one scan from each anchor that it was ever measured from. So a new scan
    costs its own row, and one that becomes an anchor its own column; nothing else is measured again.
    """

    def __init__(self, sets: Mapping[str, np.ndarray], neighbours: int, folder: Path, how: str) -> None:
        """Of descriptors (n, D) by digest.

        Args:
            sets: of all scans, with more rows than `neighbours` each.
            neighbours: as of `divergence`.
            folder: of the files; made when it is needed.
            how: names all but the two scans that a divergence depends on; part of the files' names.
        """
        self._sets, self._neighbours = sets, neighbours
        self._folder, self._how = folder, how
        self._within: dict[str, np.ndarray] = {}
        self._rows: dict[str, dict[str, float]] = {}  # of anchors

    def divergences(self, scan: str, anchors: Sequence[str]) -> np.ndarray:
        """(A,) float32, of a scan from each of the anchors."""
        row = self._row(scan)
        missing = [anchor for anchor in anchors if anchor not in row]
        for anchor in missing:
            known = self._row(anchor).get(scan)  # the other way is as far
            row[anchor] = self._measured(scan, anchor) if known is None else known
        if missing:
            write_whole(self._path(scan), (json.dumps(row, allow_nan=False) + "\n").encode())
        if scan not in anchors:
            del self._rows[scan]
        return np.array([row[anchor] for anchor in anchors], np.float32)

    def _row(self, scan: str) -> dict[str, float]:
        """What is known from this scan, by anchor."""
        if scan not in self._rows:
            self._rows[scan] = _read(self._path(scan))
        return self._rows[scan]

    def _path(self, scan: str) -> Path:
        return self._folder / f"{scan}-{self._how}.json"

    def _measured(self, scan: str, anchor: str) -> float:
        """In one order, so that rounding is the same whoever asks."""
        first, second = sorted([scan, anchor])
        for one in (first, second):
            if one not in self._within:
                self._within[one] = neighbour_distances(self._sets[one], self._neighbours)
        within = self._within[first], self._within[second]
        return divergence(self._sets[first], self._sets[second], *within, self._neighbours)


def _read(path: Path) -> dict[str, float]:
    """Anchor -> divergence; nothing where there is no file, or none that can be used."""
    try:
        row = read_card(path)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        say(f"{path} is damaged and made again: {error}")
        return {}
    if not all(isinstance(value, float) and math.isfinite(value) for value in row.values()):
        say(f"{path} holds no divergences and is made again")
        return {}
    return row
