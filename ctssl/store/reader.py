"""Reading stores with tensorstore: missing or damaged data is an error, never air."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ctssl.errors import StoreError
from ctssl.store.layout import CARD, GROUP, StoreArrays


@dataclass(frozen=True)
class Store:
    """One scan's store; the patches stay on disk until they are read.

    Attributes:
        scan: the scan's id.
        card: the store's card (digest, atlas, spacing_mm, hu_min, hu_max, measures, ...).
        valid: (N,) bool.
        landmarks_mm: (N, 3), x, y, z in LPS mm of the scan.
        lung_fraction: (N,).
        edges: (E, 2) pairs of valid landmarks, no self loops.
    """

    scan: str
    path: Path
    card: dict[str, Any]
    valid: np.ndarray
    landmarks_mm: np.ndarray
    lung_fraction: np.ndarray
    edges: np.ndarray
    _patches: Any = field(repr=False)

    def patches(self, landmarks: np.ndarray | None = None) -> np.ndarray:
        """(n, E, E, E) int16 HU, axes landmark, z, y, x; all N landmarks when None."""
        index = np.arange(len(self.valid)) if landmarks is None else np.asarray(landmarks)
        return read_patches([self], np.zeros(len(index), int), index)


def open_store(path: Path, *, atlas: str | None = None) -> Store:
    """The store in this directory.

    Args:
        path: the store's directory.
        atlas: refuse stores made with an atlas of another id.

    Raises:
        StoreError: no card, missing data, or another atlas.
    """
    path = path.resolve()  # tensorstore refuses paths with ..
    try:
        card = json.loads((path / CARD).read_text())
        scan, made_with, _ = card["scan"], card["atlas"], card["digest"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} holds no complete store: {error}", _REMAKE) from error
    if atlas is not None and made_with != atlas:
        raise StoreError(
            f"{path} was made with atlas {made_with}, but this needs atlas {atlas}",
            "use one results directory per atlas",
        )
    small = {name: _read(_open(path, name)) for name in ("valid", "landmarks_mm", "lung_fraction", "edges")}
    return Store(scan=scan, path=path, card=card, _patches=_open(path, "patches"), **small)


def read_patches(stores: Sequence[Store], scans: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """(B, E, E, E) int16 HU: patch landmarks[b] of stores[scans[b]], axes sample, z, y, x.

    All reads are under way together; the order of the result is the order asked for. The stores are of
    one atlas, which gives the edge E of a patch.
    """
    reads = [stores[s]._patches[int(j)].read() for s, j in zip(scans, landmarks, strict=True)]
    try:
        if not reads:
            return np.empty((0, *stores[0]._patches.shape[1:]), np.int16)
        return np.stack([r.result() for r in reads])
    except ValueError as error:
        raise StoreError(f"a patch cannot be read: {error}", _REMAKE) from error


def verify(path: Path) -> None:
    """Nothing, when every value in the store is the one that was written.

    Raises:
        StoreError: data are missing or changed.
    """
    store = open_store(path)
    arrays = StoreArrays(
        _read(store._patches), store.valid, store.landmarks_mm, store.lung_fraction, store.edges
    )
    if arrays.digest() != store.card["digest"]:
        raise StoreError(f"the values in {path} are not those that were written", _REMAKE)


_REMAKE = "delete this directory and run the workflow again, or copy it again if it was made elsewhere"


def _open(path: Path, name: str) -> Any:
    import tensorstore

    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": f"{path / GROUP / name}/"},
        "fill_missing_data_reads": False,
    }
    try:
        return tensorstore.open(spec, read=True, open=True).result()
    except ValueError as error:
        raise StoreError(f"{path / GROUP / name} cannot be opened: {error}", _REMAKE) from error


def _read(array: Any) -> np.ndarray:
    if 0 in array.shape:
        return np.empty(array.shape, array.dtype.numpy_dtype)
    try:
        return np.asarray(array.read().result())
    except ValueError as error:
        raise StoreError(f"data are missing or damaged: {error}", _REMAKE) from error
